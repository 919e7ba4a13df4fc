-- Write a document, or delete it, if it still has the version that its writer saw; the new version. A repeat of this
-- very call answers as the first time.

local function operation()
    local store, most, kind, key, version = arg(), num(), arg(), arg(), arg()
    local value = flag() and arg()
    local expires_in = num()
    local written = P .. 'written:' .. TOKEN
    local before = read('GET', written)
    if before then return {NOW, '', tonumber(before)} end

    local key_of_kind, member = P .. 'd:' .. kind, 'd' .. kind .. ' ' .. key
    local found = read('HGET', key_of_kind, key)
    local current, ends = match(found or '', '^(%d+) (%d*)\n')
    if ends and ends ~= '' and tonumber(ends) <= NOW then current = nil end
    if version ~= (current or '0') then return {NOW, '', ''} end
    if value and not found and read('HLEN', key_of_kind) >= most then
        local _, gone = drop_expired(1000, kind)
        if gone == 0 then return {NOW, '', 'full'} end
    end

    local new = int((read('HGET', META, 'number') or 0) + 1)
    write('HSET', META, 'number', new)
    if value then
        ends = expires_in and int(NOW + expires_in) or ''
        write('HSET', key_of_kind, key, new .. ' ' .. ends .. '\n' .. value)
        if expires_in then write('ZADD', P .. 'ends', ends, member) else write('ZREM', P .. 'ends', member) end
    else
        write('HDEL', key_of_kind, key)
        write('ZREM', P .. 'ends', member)
    end
    write('SET', written, new, 'PX', 60000)
    write('PUBLISH', store .. ':', NODE .. ' c' .. kind)
    return shared_done(tonumber(new), 'c' .. kind)
end
