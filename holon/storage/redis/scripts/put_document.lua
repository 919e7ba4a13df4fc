-- Write documents, or delete them, each if it still has the version that its writer saw; the new versions. A repeat of a
-- writer's call answers as the first time. What others of them become is not to be read before all is written: it is
-- kept until then.

local function operation()
    local became, room, dropped, kinds, answers = {}, {}, {}, {}, {}
    local number = read('HGET', META, 'number') or 0
    local before = number

    local function text_of(member, key_of_kind, key)
        local one = became[member]
        if one then return one.text end
        return read('HGET', key_of_kind, key)
    end

    -- Whether there may be one document more of a kind.
    local function has_room(kind, key_of_kind, most)
        room[kind] = room[kind] or most - read('HLEN', key_of_kind)
        if room[kind] <= 0 and not dropped[kind] then
            dropped[kind] = true
            local _, gone = drop_expired(1000, kind)
            room[kind] = room[kind] + gone
        end
        return room[kind] > 0
    end

    local function put_one(most, kind, key, version, value, expires_in)
        local key_of_kind, member = P .. 'd:' .. kind, 'd' .. kind .. ' ' .. key
        local found = text_of(member, key_of_kind, key)
        local current, ends = match(found or '', '^(%d+) (%d*)\n')
        if ends and ends ~= '' and tonumber(ends) <= NOW then current = nil end
        if version ~= (current or '0') then return '' end
        if not found then
            if value and not has_room(kind, key_of_kind, most) then return 'full' end
            if value then room[kind] = room[kind] - 1 end
        end
        number, kinds[kind] = number + 1, true
        ends = value and expires_in and int(NOW + expires_in) or ''
        local text = value and int(number) .. ' ' .. ends .. '\n' .. value
        became[member] = {key_of_kind = key_of_kind, key = key, text = text, ends = ends}
        return number
    end

    local store
    for i = 1, num() do
        local written = P .. 'written:' .. arg()
        store = arg()
        local most, kind, key, version, value = num(), arg(), arg(), arg(), flag() and arg()
        local expires_in = num()
        answers[i] = tonumber(read('GET', written)) or put_one(most, kind, key, version, value, expires_in)
        if answers[i] ~= '' and answers[i] ~= 'full' then write('SET', written, int(answers[i]), 'PX', 60000) end
    end
    if number == before then return {NOW, '', answers} end
    write('HSET', META, 'number', int(number))
    for member, one in pairs(became) do
        if one.text then put('HSET', one.key_of_kind, one.key, one.text) else put('HDEL', one.key_of_kind, one.key) end
        if one.ends ~= '' then put('ZADD', P .. 'ends', one.ends, member) else put('ZREM', P .. 'ends', member) end
    end
    local changed = {}
    for kind in pairs(kinds) do changed[#changed + 1] = 'c' .. kind end
    local hint = concat(changed, ' ')
    write('PUBLISH', store .. ':', NODE .. ' ' .. hint)
    return shared_done(answers, hint)
end
