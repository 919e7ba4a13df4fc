-- What waits for somebody: whether jobs do, when the next timer is due, and the match keys of tasks.

local function more(name)
    local newest = redis.call('XREVRANGE', P .. name, '+', '-', 'COUNT', 1)[1]
    local last = redis.call('HGET', META, name)
    if not newest or not last then return false end
    return tonumber(string.match(newest[1], '^%d+')) > tonumber(string.match(last, '^%d+'))
end
local words = redis.call('HKEYS', P .. 'needs')
for i, key in ipairs(words) do words[i] = 'k' .. key end
local due = redis.call('ZRANGE', P .. 'timers', 0, 0, 'WITHSCORES')[2]
if due then words[#words + 1] = 'd' .. due end
if more('ready') or more('suspects') then words[#words + 1] = 'r' end
words[#words + 1] = 's'
return table.concat(words, ' ')
