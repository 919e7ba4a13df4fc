-- Every match key that has waiting tasks: key, need, how many.

local function operation()
    local found = {}
    local needs, waiting = read('HGETALL', P .. 'needs'), read('HGETALL', P .. 'waiting')
    local counts = {}
    for i = 1, #waiting, 2 do counts[waiting[i]] = waiting[i + 1] end
    for i = 1, #needs, 2 do found[#found + 1] = {needs[i], needs[i + 1], counts[needs[i]] or '0'} end
    return found
end
