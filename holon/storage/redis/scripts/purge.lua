-- Delete jobs that ended before this time, with all that is theirs; how many were.
-- The counts of periods that are over go too.

local before_it, limit = num(), num()
local ended = read('ZRANGEBYSCORE', P .. 'over', '-inf', '(' .. int(before_it), 'LIMIT', 0, 1000)
-- A script stops the server while it runs: a job with many tasks is deleted with fewer others.
local MOST = 5000
local keys, count = 0, 0

-- Whether some of a job's history is still to be moved: what was, is gone from here.
local function is_to_move(id)
    return MAX_BACKLOG and read('XLEN', P .. 'h:' .. id) > 0
end

local function purge(id, row)
    if row then
        for step, total in string.gmatch(row.made or '', '(%d+):(%d+)') do
            for index = 0, tonumber(total) - 1 do
                write('UNLINK', P .. 't:' .. id .. '-' .. step .. '-' .. int(index))
            end
            keys = keys + tonumber(total)
        end
        for _, kind in ipairs({'i:', 'd:', 'h:'}) do write('UNLINK', P .. kind .. id) end
        write('UNLINK', row.KEY)
        write('ZREM', P .. 'o:' .. row.owner, id)
        if row.request then write('HDEL', P .. 'r:' .. row.owner, row.request) end
    end
    write('ZREM', P .. 'over', id)
    keys, count = keys + 1, count + 1
end

for _, id in ipairs(ended) do
    if keys > MOST or count == limit then break end
    if not is_to_move(id) then purge(id, job(id)) end
end
for _, name in ipairs(read('ZRANGEBYSCORE', P .. 'quota_ends', '-inf', int(NOW), 'LIMIT', 0, 1000)) do
    write('HDEL', P .. 'quotas', name)
    write('ZREM', P .. 'quota_ends', name)
end
return done(count)
