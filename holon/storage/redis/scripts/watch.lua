-- Note that a node wants to hear of every change of a job, or no more.

local id, on = arg(), flag()
local key, rest = P .. 'watched', {}
for _, node in ipairs(words(read('HGET', key, id) or '')) do
    if node ~= NODE then rest[#rest + 1] = node end
end
if on then rest[#rest + 1] = NODE end
if rest[1] then
    write('HSET', key, id, table.concat(rest, ' '))
else
    write('HDEL', key, id)
end
return done({})
