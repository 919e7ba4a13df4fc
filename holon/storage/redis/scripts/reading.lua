-- What every operation begins with that only reads.

local function run_reading(operation, keys, argv)
    if not read then bind() end
    META = keys[1]
    P = string.sub(META, 1, -5)
    args, at = argv, 0
    return operation()
end

-- A job as clients see it, with what its single task needs while nobody has it; nil when there is none.
local function record(id)
    local fields = read('HMGET', P .. 'j:' .. id, 'n', 'state', 'created', 'updated', 'finished', 'progress', 'message',
        'deliveries', 'told', 'open_step', 'open_count', 'fan', 'status', 'blueprint')
    if not fields[1] then return nil end
    local need = ''
    if fields[11] and fields[11] ~= '0' and not fields[12] then
        local found = read('HMGET', P .. 't:' .. id .. '-' .. fields[10] .. '-0', 'place', 'need')
        if found[1] == 'queued' then need = found[2] end
    end
    local told = {}
    for i = 2, 9 do told[i - 1] = fields[i] or '' end
    told[9], told[10], told[11] = need, tonumber(fields[1]), id
    return told, fields[13], fields[14]
end
