-- Jobs of an owner, newest first, before an arrival number; where to go on, when not all were looked at.

local LOOK_AT = 200
local owner, from, limit, blueprint = arg(), arg(), tonumber(arg()), arg()
local statuses, some = {}, false
for status in string.gmatch(arg(), '%S+') do
    statuses[status] = true
    some = true
end
local found, last = {}, nil
local ids = redis.call('ZREVRANGEBYSCORE', P .. 'o:' .. owner, from == '' and '+inf' or '(' .. from, '-inf', 'LIMIT', 0,
    LOOK_AT)
for _, id in ipairs(ids) do
    if #found == limit then return {found, last} end
    local told, n, status, its = record(id)
    if told then
        last = n
        if (not some or statuses[status]) and (blueprint == '' or blueprint == its) then
            told[10] = n
            found[#found + 1] = told
        end
    end
end
return {found, #ids == LOOK_AT and last or 0}
