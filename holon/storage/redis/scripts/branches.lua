-- The outcomes of a fan-out's branches, from one index on: index, outcome, index, outcome...; where to go on.

local LOOK_AT = 500
local id, step, from = arg(), arg(), tonumber(arg())
local fan = redis.call('HGET', P .. 'j:' .. id, 'fan')
local fan_step, total = string.match(fan or '', '^(%d+) (%d+) ')
if fan_step ~= step then return {{}, 0} end
local found = {}
local to = math.min(tonumber(total), from + LOOK_AT)
for index = from, to - 1 do
    local outcome = redis.call('HGET', P .. 't:' .. id .. '-' .. step .. '-' .. string.format('%.0f', index), 'outcome')
    if outcome then
        found[#found + 1] = index
        found[#found + 1] = outcome
    end
end
return {found, to < tonumber(total) and to or 0}
