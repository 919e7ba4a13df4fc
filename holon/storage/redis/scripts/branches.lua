-- The outcomes of a fan-out's branches, from one index on: index, outcome, index, outcome...; where to go on.

local LOOK_AT = 500
local function operation()
    local id, step, from = arg(), arg(), tonumber(arg())
    local fan = read('HGET', P .. 'j:' .. id, 'fan')
    local fan_step, total = match(fan or '', '^(%d+) (%d+) ')
    if fan_step ~= step then return {{}, 0} end
    local found = {}
    local to = math.min(tonumber(total), from + LOOK_AT)
    for index = from, to - 1 do
        local outcome = read('HGET', P .. 't:' .. id .. '-' .. step .. '-' .. int(index), 'outcome')
        if outcome then
            found[#found + 1] = index
            found[#found + 1] = outcome
        end
    end
    return {found, to < tonumber(total) and to or 0}
end
