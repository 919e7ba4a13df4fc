-- The store's functions. A shard's keys have the tag {holon:S}, shared ones {holon}. Every key that is touched is declared.
-- Numbers of milliseconds do not fit Lua's way of printing numbers: they go through `text`.
local function text(number) return string.format('%.0f', number) end

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- A shard's head: epoch, token, batch, time, node, schema. Its time never goes back, whatever server answers.
local FIELDS = {'epoch', 'token', 'batch', 'time', 'node', 'schema'}
local function head_of(key)
  local fields = redis.call('HMGET', key, unpack(FIELDS))
  local head = {
    epoch = tonumber(fields[1] or 0), token = fields[2] or '', batch = tonumber(fields[3] or 0),
    time = tonumber(fields[4] or 0), node = fields[5] or '', schema = tonumber(fields[6] or 0),
  }
  head.time = math.max(head.time, now_ms())
  return head
end

local function reply(word, head)
  return {word, head.epoch, head.token, head.batch, text(head.time), head.node, head.schema}
end

local function owns(head, epoch, token) return head.epoch == tonumber(epoch) and head.token == token end

-- KEYS store. ARGV id, shards, layout: makes the store unless it is there. `whole` says that all its shards were made.
local function open(keys, args)
  if redis.call('HEXISTS', keys[1], 'id') == 0 then
    redis.call('HSET', keys[1], 'id', args[1], 'shards', args[2], 'layout', args[3], 'generation', 1)
  end
  return redis.call('HMGET', keys[1], 'id', 'shards', 'layout', 'generation', 'whole')
end

-- KEYS a head for each shard.
local function heads(keys)
  local found = {}
  for place, key in ipairs(keys) do found[place] = reply('ok', head_of(key)) end
  return found
end

-- KEYS head. ARGV the epoch, token and batch that were seen, the new token, node, schema, the store's id. A repeat writes
-- too: WAIT on a connection that wrote nothing answers at once.
local function acquire(keys, args)
  local head = head_of(keys[1])
  if redis.call('HGET', keys[1], 'store') ~= args[7] then return reply('lost', head) end
  if head.token ~= args[4] then
    if not owns(head, args[1], args[2]) or head.batch ~= tonumber(args[3]) then return reply('no', head) end
    head.epoch, head.token, head.node, head.schema = head.epoch + 1, args[4], args[5], tonumber(args[6])
  end
  redis.call('HSET', keys[1], 'epoch', head.epoch, 'token', head.token, 'batch', head.batch, 'time', text(head.time),
    'node', head.node, 'schema', head.schema)
  return reply('ok', head)
end

-- KEYS head. ARGV epoch, token, number of the last batch.
local function release(keys, args)
  local head = head_of(keys[1])
  if not owns(head, args[1], args[2]) or head.batch ~= tonumber(args[3]) then return 0 end
  redis.call('HSET', keys[1], 'token', '')
  return 1
end

-- What `unpack` puts on the stack is bounded.
local MOST = 4000
local function each(command, key, args, first, count)
  for from = first, first + count - 1, MOST do
    redis.call(command, key, unpack(args, from, math.min(from + MOST, first + count) - 1))
  end
end

-- KEYS head, then those that operations name by their place. ARGV epoch, token, number, newest stamp, operations:
--   D key                            a job goes with all its rows
--   d key n name*n                   rows go
--   p key n (name value)*n           rows are put
--   Z key n member*n                 entries go
--   z key n (score member)*n         entries are put
local COMMANDS = {d = 'HDEL', p = 'HSET', Z = 'ZREM', z = 'ZADD'}
local PAIRS = {p = true, z = true}
local function apply(keys, args)
  local head = head_of(keys[1])
  local number = tonumber(args[3])
  if not owns(head, args[1], args[2]) then return reply('fenced', head) end
  if number > head.batch + 1 then return reply('gap', head) end
  if number == head.batch + 1 then
    local at = 5
    while args[at] do
      local verb, key = args[at], keys[tonumber(args[at + 1])]
      if verb == 'D' then
        redis.call('UNLINK', key)
        at = at + 2
      else
        local count = tonumber(args[at + 2]) * (PAIRS[verb] and 2 or 1)
        each(COMMANDS[verb], key, args, at + 3, count)
        at = at + 3 + count
      end
    end
    head.batch, head.time = number, math.max(head.time, tonumber(args[4]))
  end
  redis.call('HSET', keys[1], 'batch', head.batch, 'time', text(head.time))
  return reply('ok', head)
end

-- KEYS any: a write, so that a WAIT behind a flight of reads asks the replicas anew.
local function barrier(keys) return redis.call('INCR', keys[1]) end

-- A shared record is 'version expiry value' in a hash of its kind; an expiry of 0 is none. Expiries of all kinds stand in
-- one sorted set, whose members are 'kind key'. The store has the last version.
local function record_of(hash, key, now)
  local stored = redis.call('HGET', hash, key)
  if not stored then return nil end
  local version, expiry, value = string.match(stored, '^(%d+) (%d+) (.*)$')
  if tonumber(expiry) ~= 0 and tonumber(expiry) <= now then return nil end
  return {version = tonumber(version), expiry = tonumber(expiry), value = value}
end

-- KEYS store, expiries, the hash of each change. ARGV the store's id, and for each change: kind, key, version, time to
-- live or '', '1' and value or '0' and ''. The reply is nil if the server has lost the store.
local function exchange(keys, args)
  if redis.call('HGET', keys[1], 'id') ~= args[1] then return nil end
  local now, answers, expiries = now_ms(), {}, keys[2]
  for change = 1, (#args - 1) / 6 do
    local hash, at = keys[2 + change], 6 * change - 4
    local kind, key, version, ttl, put, value = unpack(args, at, at + 5)
    local member = kind .. ' ' .. key
    local record = record_of(hash, key, now)
    local made = (record and record.version or 0) == tonumber(version)
    if made and put == '1' then
      record = {version = redis.call('HINCRBY', keys[1], 'version', 1), expiry = ttl == '' and 0 or now + tonumber(ttl),
        value = value}
      redis.call('HSET', hash, key, text(record.version) .. ' ' .. text(record.expiry) .. ' ' .. value)
      if ttl == '' then redis.call('ZREM', expiries, member) else redis.call('ZADD', expiries, text(record.expiry), member) end
    elseif made then
      record = nil
      redis.call('HDEL', hash, key)
      redis.call('ZREM', expiries, member)
    end
    answers[change] = {made and 1 or 0, record and text(record.version) or '0', record and text(record.expiry) or '0',
      record and record.value or ''}
  end
  return answers
end

-- KEYS expiries. ARGV most: members that have expired.
local function expired(keys, args)
  return redis.call('ZRANGE', keys[1], '-inf', text(now_ms()), 'BYSCORE', 'LIMIT', 0, args[1])
end

-- KEYS expiries, the hash of each member. ARGV for each: kind, key. Deletes those that have expired.
local function expire(keys, args)
  local now, deleted = now_ms(), 0
  for place = 1, #args / 2 do
    local kind, key = args[2 * place - 1], args[2 * place]
    local expiry = redis.call('ZSCORE', keys[1], kind .. ' ' .. key)
    if expiry and tonumber(expiry) <= now then
      redis.call('HDEL', keys[1 + place], key)
      redis.call('ZREM', keys[1], kind .. ' ' .. key)
      deleted = deleted + 1
    end
  end
  return deleted
end

-- A counter is 'value expiry'. KEYS a counter for each draw. ARGV for each: amount, limit, time to live, '1' if that is
-- aligned.
local function draw(keys, args)
  local now, answers = now_ms(), {}
  for place, key in ipairs(keys) do
    local amount, limit, ttl = tonumber(args[4 * place - 3]), tonumber(args[4 * place - 2]), tonumber(args[4 * place - 1])
    local value, expiry = string.match(redis.call('GET', key) or '0 0', '^(%d+) (%d+)$')
    value, expiry = tonumber(value), tonumber(expiry)
    if expiry <= now then value, expiry = 0, now + ttl - (args[4 * place] == '1' and now % ttl or 0) end
    local granted = value + amount <= limit
    if granted then
      value = value + amount
      redis.call('SET', key, text(value) .. ' ' .. text(expiry), 'PX', text(expiry - now))
    end
    answers[place] = {granted and 1 or 0, text(value), text(expiry - now)}
  end
  return answers
end

-- Work that is under way may go beyond the server's maxmemory: it frees more than it takes.
local function register(name, callback, reads)
  redis.register_function{function_name = LIBRARY .. '_' .. name, callback = callback,
    flags = {reads and 'no-writes' or 'allow-oom'}}
end
register('now', function() return text(now_ms()) end, true)
register('open', open)
register('heads', heads, true)
register('acquire', acquire)
register('release', release)
register('apply', apply)
register('barrier', barrier)
register('exchange', exchange)
register('expired', expired, true)
register('expire', expire)
register('draw', draw)
