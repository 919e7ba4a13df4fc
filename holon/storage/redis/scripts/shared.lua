-- What every script begins with that is about what nodes share beside jobs, which has a slot of its own. It reads
-- first, and writes at its end. What expires is named in `ends`: d and a document's kind and key, q and a quota's name.

local META = KEYS[1]
local P = string.match(META, '^(.*)meta$')
local NODE, TOKEN = ARGV[2], ARGV[3]
local at = 4
local function arg() at = at + 1 return ARGV[at] end
local function num() return tonumber(arg()) end
local function flag() return arg() ~= '' end

local function int(x) return string.format('%.0f', x) end

local read = redis.call

local NOW = tonumber(ARGV[1])
if not NOW then
    local time = redis.call('TIME')
    NOW = time[1] * 1000 + math.floor(time[2] / 1000)
end

local writes = {}
local function write(...) writes[#writes + 1] = {...} end

local function done(answer, words)
    -- Before Redis 7 a script is refused for want of memory at its first write, if that one grows.
    if SHRINKS then redis.call('DEL', P .. 'nothing') end
    for _, one in ipairs(writes) do redis.call(unpack(one)) end
    return {NOW, words or '', answer}
end

-- Forget what has expired, at most so much of it; how much was, and how much of that of one kind.
local function drop_expired(limit, kind)
    local members = read('ZRANGEBYSCORE', P .. 'ends', '-inf', int(NOW), 'LIMIT', 0, limit)
    local of_kind = 0
    for _, member in ipairs(members) do
        if string.sub(member, 1, 1) == 'q' then
            write('UNLINK', P .. 'quota:' .. string.sub(member, 2))
        else
            local its, key = string.match(member, '^d(%S+) (.*)$')
            write('HDEL', P .. 'd:' .. its, key)
            if its == kind then of_kind = of_kind + 1 end
        end
        write('ZREM', P .. 'ends', member)
    end
    return #members, of_kind
end
