-- The outcomes of a fan-out's branches, from one index on: index, outcome, index, outcome...; where to go on.

local LOOK_AT = 500
local function operation()
    local id, step, from = arg(), arg(), tonumber(arg())
    local row = job(id)
    local fan = row and fan_of(row)
    if not fan or int(fan.step) ~= step then return {{}, 0} end
    local found = {}
    local to = math.min(fan.total, from + LOOK_AT)
    local keys = {}
    for index = from, to - 1 do
        local task_id = id .. '-' .. step .. '-' .. int(index)
        keys[#keys + 1], keys[#keys + 2] = P .. 't:' .. task_id, P .. 'x:' .. task_id
    end
    fetch(keys)
    for index = from, to - 1 do
        local one = task(id .. '-' .. step .. '-' .. int(index))
        local outcome = one and one.place == 'over' and value_of(P .. 'x:' .. one.ID)
        if outcome then
            found[#found + 1] = index
            found[#found + 1] = outcome
        end
    end
    return {found, to < fan.total and to or 0}
end
