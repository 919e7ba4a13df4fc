-- A partition may make no more jobs of a quota than it has, until it draws again: how many, under a new generation.

local function operation()
    local name, ends = arg(), num()
    local made, generation = match(read('HGET', P .. 'quotas', name) or '0 0', '^(%d+) (%d+)$')
    generation = generation + 1
    write('HSET', P .. 'quotas', name, made .. ' ' .. int(generation))
    write('ZADD', P .. 'quota_ends', int(ends), name)
    return shared_done({tonumber(made), generation})
end
