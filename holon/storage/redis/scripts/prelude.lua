-- What every call has: its arguments, the time, and what it is going to write. `begin` comes first.
-- All reading comes before all writing, so that a call does all that it decided, or nothing.
-- A file holds definitions, each begun in the first column: see `holon.storage.redis.scripts.compose`.

local META, P, NODE, TOKEN
local args, at
local function arg() at = at + 1 return args[at] end
local function num() return tonumber(arg()) end
local function flag() return arg() ~= '' end

-- While a library is being loaded there is nothing of this yet.
local read, format, match, gmatch, concat, pack, unpacked
-- How integers are written: as such, which is quicker, where Lua has them of 64 bits.
local INTEGER
-- Small ones as texts.
local SMALL = {}
local function bind()
    read, format, match, gmatch = redis.call, string.format, string.match, string.gmatch
    concat, pack, unpacked = table.concat, cmsgpack.pack, cmsgpack.unpack_limit
    INTEGER = format('%d', 2 ^ 52) == '4503599627370496' and '%d' or '%.0f'
    for i = 0, 255 do SMALL[i] = format('%d', i) end
end

-- Small values come as one word, which is mostly as one before: each is unpacked once, and `make` makes out of its values
-- what they are for. Nobody changes that. A long one is hardly that of another job, and would take much memory.
local function forms(make)
    local known, count = {}, 0
    return function(word)
        if #word > 2000 then return make(cmsgpack.unpack(word)) end
        local form = known[word]
        if not form then
            if count == 1000 then known, count = {}, 0 end
            form, count = make(cmsgpack.unpack(word)), count + 1
            known[word] = form
        end
        return form
    end
end

local function empty_store() return redis.error_reply('EMPTYSTORE nothing is left of this store') end

local function int(x) return SMALL[x] or format(INTEGER, x) end
local function real(x) return format('%.17g', x) end

-- What nobody puts anything into.
local NONE = {}

-- A table that may have been filled by the call before.
local function emptied(set) return next(set) == nil and set or {} end

-- How many partitions there are, and how a number is written that one of them gives.
local PARTITIONS, PLACE
-- How many bytes of history may wait to be moved; nil, where it stays.
local MAX_BACKLOG
-- What else operations go by: durations, in milliseconds, and limits, as their `text` says; and how many `digits` those
-- numbers have.
local settings = {}
local function read_settings(text)
    local found = {}
    for one in gmatch(text, '%d+') do found[#found + 1] = tonumber(one) end
    local claim, lease, offer, max_inbox, max_losses, max_fan_in, partitions, execution, max_backlog = unpack(found)
    local digits = partitions > 1 and 16 or 12
    PARTITIONS, PLACE, MAX_BACKLOG = partitions, '%0' .. digits .. string.sub(INTEGER, 2), max_backlog
    settings = {
        text = text, claim = claim, lease = lease, offer = offer, max_inbox = max_inbox, max_losses = max_losses,
        max_fan_in = max_fan_in, execution = execution, digits = digits,
    }
end

-- What is to be written: commands in their order, and those that were begun and take more of the same: by command, by key.
local writes, begun = {}, {}
local function write(...) writes[#writes + 1] = {...} end

-- Texts that are to be written, each under a key of its own.
local texts, kept = {}, 0
local function keep(key, text)
    texts[kept + 1], texts[kept + 2], kept = key, text, kept + 2
end

-- Write one item more, or two, with what else goes to this key by this command.
local function put(command, key, one, two)
    local keys = begun[command]
    if not keys then
        keys = {}
        begun[command] = keys
    end
    local known = keys[key]
    local n = known and #known or 4001
    if n > 4000 then
        known, n = {command, key}, 2
        keys[key], writes[#writes + 1] = known, known
    end
    known[n + 1], known[n + 2] = one, two
end

-- Variadic commands take so many of their arguments at a time.
local function write_many(command, key, items)
    if #items <= 4000 then
        write(command, key, unpack(items))
        return
    end
    for from = 1, #items, 4000 do
        write(command, key, unpack(items, from, math.min(from + 3999, #items)))
    end
end

local NUMBER, NOW, NOW_TEXT
-- What else is known of the partition as a whole: `id`, by which nodes hear of each other; `newest`, the newest entry of
-- the stream of ready jobs; `poisoned`, how many entries the stream of suspects has; `idle`, the nodes that would take a
-- job, each between blanks; `watched`, whether any job is; `next_due`, before which no timer is due.
local facts = {
    id = nil, newest = nil, found_newest = nil, poisoned = nil, idle = nil, found_idle = nil, watched = nil, next_due = nil,
}
local CHANGED
local function change(name, value) CHANGED[#CHANGED + 1], CHANGED[#CHANGED + 2] = name, value end

local function number()
    NUMBER = NUMBER + PARTITIONS
    return NUMBER
end

-- Where there are several partitions, no two of them give the same number, and numbers follow the time: lists of jobs
-- are put together by them.
local function follow_time()
    local own = tonumber(match(P, '%d+'))
    NUMBER = math.max(NUMBER, math.floor(NOW * 1000 / PARTITIONS) * PARTITIONS + own)
end

-- A call whose reply was lost is carried out again, and must not hand out the same: no number comes twice. What one call
-- hands out begins alike.
local begun_for, beginning
local function token()
    if begun_for ~= TOKEN then
        begun_for, beginning = TOKEN, string.sub(redis.sha1hex(TOKEN .. int(number())), 1, 24)
    end
    return beginning .. format('%08x', number() % 4294967296)
end

-- The place of something among those of the same score is its number, and its id: what came first is first.
-- Where there is one partition a number may come to have more digits than its place. Each id begins with '0-' there.
local function id_of(member)
    if PARTITIONS > 1 then return string.sub(member, settings.digits + 1) end
    return string.sub(member, string.find(member, '-', 1, true) - 1)
end

local function words(text)
    local found = {}
    if text and text ~= '' then
        for word in gmatch(text, '%S+') do found[#found + 1] = word end
    end
    return found
end

-- What others are to know: the tokens of a hint, see `holon.storage.redis.channel`.
local hints = {mine = {}, all = {}, theirs = {}}
local function tell_node(node, word)
    if node == NODE then
        hints.mine[word] = true
    else
        hints.theirs[node] = hints.theirs[node] or {}
        hints.theirs[node][word] = true
    end
end

local function no_longer_idle(node)
    local from, to = string.find(facts.idle, ' ' .. node .. ' ', 1, true)
    if from then
        facts.idle = string.sub(facts.idle, 1, from) .. string.sub(facts.idle, to + 1)
        if facts.idle == ' ' then facts.idle = '' end
    end
end
