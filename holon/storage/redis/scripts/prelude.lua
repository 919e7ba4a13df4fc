-- What every script begins with: its arguments, the time, and what it is going to write.
-- All reading comes before all writing, so that a script does all that it decided, or nothing.

local META = KEYS[1]
local P = string.match(META, '^(.*)meta$')
local NODE, TOKEN = ARGV[2], ARGV[3]
-- Which of its node's connections this came on.
local LANE = ARGV[#ARGV]

local args, at = ARGV, 4
local function arg() at = at + 1 return args[at] end
local function num() return tonumber(arg()) end
local function flag() return arg() ~= '' end

local function int(x) return string.format('%.0f', x) end
local function real(x) return string.format('%.17g', x) end

local CLAIM, LEASE, OFFER, MAX_INBOX, MAX_LOSSES, MAX_FAN_IN
-- How many bytes of history may wait to be moved; nil, where it stays.
local MAX_BACKLOG
do
    local found = {}
    for one in string.gmatch(ARGV[4], '%d+') do found[#found + 1] = tonumber(one) end
    CLAIM, LEASE, OFFER, MAX_INBOX, MAX_LOSSES, MAX_FAN_IN, MAX_BACKLOG = unpack(found)
end

local read = redis.call

local writes = {}
local function write(...) writes[#writes + 1] = {...} end

local ID, NUMBER, BEGAN, NOW
local LAST = {}
do
    local meta = read('HMGET', META, 'id', 'number', 'time', 'ready', 'suspects', 'lane:' .. NODE)
    if not meta[1] then return redis.error_reply('EMPTYSTORE nothing is left of this store') end
    if meta[6] ~= LANE then return redis.error_reply('OUTDATED this node has connected again since') end
    ID, NUMBER, BEGAN = meta[1], tonumber(meta[2]), tonumber(meta[3])
    LAST.ready, LAST.suspects = meta[4], meta[5]
    NOW = tonumber(ARGV[1])
    if not NOW then
        local time = redis.call('TIME')
        NOW = time[1] * 1000 + math.floor(time[2] / 1000)
    end
    NOW = math.max(NOW, BEGAN)
end
local CHANGED = {'time', int(NOW)}

local function number()
    NUMBER = NUMBER + 1
    return NUMBER
end

local tokens = 0
local function token()
    tokens = tokens + 1
    return string.sub(redis.sha1hex(TOKEN .. tokens), 1, 32)
end

-- The place of something among those of the same score: its number, so that what came first is first.
local function place(n, id) return string.format('%012.0f', n) .. id end
local function id_of(member) return string.sub(member, 13) end

local function words(text)
    local found = {}
    for word in string.gmatch(text or '', '%S+') do found[#found + 1] = word end
    return found
end

-- What others are to know: the tokens of a hint, see `holon.storage.redis.channel`.
local mine, all, theirs = {}, {}, {}
local function tell_node(node, word)
    if node == NODE then
        mine[word] = true
    else
        theirs[node] = theirs[node] or {}
        theirs[node][word] = true
    end
end
