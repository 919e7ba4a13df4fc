-- What every script begins with that only reads.

local META = KEYS[1]
local P = string.match(META, '^(.*)meta$')
local at = 0
local function arg() at = at + 1 return ARGV[at] end

-- A job as clients see it, with what its single task needs while nobody has it; nil when there is none.
local function record(id)
    local fields = redis.call('HMGET', P .. 'j:' .. id, 'n', 'state', 'created', 'updated', 'finished', 'progress',
        'message', 'deliveries', 'told', 'open_step', 'open_count', 'fan', 'status', 'blueprint')
    if not fields[1] then return nil end
    local need = ''
    if fields[11] and not fields[12] then
        local found = redis.call('HMGET', P .. 't:' .. id .. '-' .. fields[10] .. '-0', 'place', 'need')
        if found[1] == 'queued' then need = found[2] end
    end
    local told = {}
    for i = 2, 9 do told[i - 1] = fields[i] or '' end
    told[9], told[10] = need, tonumber(fields[1])
    return told, fields[13], fields[14]
end
