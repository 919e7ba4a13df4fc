-- The match keys that have waiting tasks, of those that are asked for, or all: key, need, how many.

local function operation()
    local found, keys = {}, words(arg())
    for from = 1, #keys, 4000 do
        local to = math.min(from + 3999, #keys)
        local needs = read('HMGET', P .. 'needs', unpack(keys, from, to))
        local waiting = read('HMGET', P .. 'waiting', unpack(keys, from, to))
        for i = from, to do
            local need = needs[i - from + 1]
            if need then found[#found + 1] = {keys[i], need, waiting[i - from + 1] or '0'} end
        end
    end
    if keys[1] then return found end
    local needs, waiting = read('HGETALL', P .. 'needs'), read('HGETALL', P .. 'waiting')
    local counts = {}
    for i = 1, #waiting, 2 do counts[waiting[i]] = waiting[i + 1] end
    for i = 1, #needs, 2 do found[#found + 1] = {needs[i], needs[i + 1], counts[needs[i]] or '0'} end
    return found
end
