-- Jobs of an owner, newest first, before an arrival number; where to go on, when not all were looked at, and whether
-- their states have as many bytes as there is room for. Where the page has none yet, one finds room always.

local LOOK_AT = 200
local function operation()
    local owner, from, limit, room, blueprint = arg(), arg(), tonumber(arg()), tonumber(arg()), arg()
    local empty, created_after, created_before = arg() ~= '', tonumber(arg()), tonumber(arg())
    local statuses, some = {}, false
    for status in gmatch(arg(), '%S+') do
        statuses[status] = true
        some = true
    end
    local found, last = {}, nil
    local ids = read('ZREVRANGEBYSCORE', P .. 'o:' .. owner, from == '' and '+inf' or '(' .. from, '-inf', 'LIMIT', 0,
        LOOK_AT)
    for _, id in ipairs(ids) do
        if #found == limit then return {found, last, 0} end
        local told, status, its = record(id)
        if told then
            local created = tonumber(told[2])
            local too_early = created_after and created < created_after
            local in_time = not (too_early or created_before and created >= created_before)
            if in_time and (not some or statuses[status]) and (blueprint == '' or blueprint == its) then
                room = room - #told[1]
                if room < 0 and not (empty and #found == 0) then return {found, last or 0, 1} end
                found[#found + 1] = told
            end
            last = told[10]
        end
    end
    return {found, #ids == LOOK_AT and last or 0, 0}
end
