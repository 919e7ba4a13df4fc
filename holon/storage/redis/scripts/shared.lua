-- What nodes share beside jobs has a slot of its own, and calls that begin and end more simply. What expires is named
-- in `ends`: d and a document's kind and key, q and a quota's name.

local function run_sharing(operation, keys, argv)
    if not read then bind() end
    META, NODE, TOKEN = keys[1], argv[2], argv[3]
    P = string.sub(META, 1, -5)
    args, at = argv, 4
    writes, begun, texts, kept = {}, {}, {}, 0
    NOW = tonumber(argv[1]) or server_time()
    return operation()
end

local function shared_done(answer, hint)
    write_all()
    return {NOW, hint or '', answer}
end

-- Forget what has expired, at most so much of it; how much was, and how much of that of one kind.
local function drop_expired(limit, kind)
    local members = read('ZRANGEBYSCORE', P .. 'ends', '-inf', int(NOW), 'LIMIT', 0, limit)
    local of_kind = 0
    for _, member in ipairs(members) do
        if string.sub(member, 1, 1) == 'q' then
            write('UNLINK', P .. 'quota:' .. string.sub(member, 2))
        else
            local its, key = match(member, '^d(%S+) (.*)$')
            put('HDEL', P .. 'd:' .. its, key)
            if its == kind then of_kind = of_kind + 1 end
        end
        put('ZREM', P .. 'ends', member)
    end
    return #members, of_kind
end
