-- A window is a string: the newest bucket, the sum of all counters, and the
-- counters of 61 buckets, bucket j at j mod 61; all are 64-bit, big-endian.

local RING = 61
local MAX = 4e15

local function zeros(n) return string.rep('\0', 8 * n) end
local function counter(body, slot) return (struct.unpack('>I8', body, 8 * slot + 1)) end

local function put(body, slot, value)
  return body:sub(1, 8 * slot) .. struct.pack('>I8', value) .. body:sub(8 * slot + 9)
end

local function bucket(at, width) return (at - math.fmod(at, width)) / width end

-- load reads a window as of now. A clock that steps back does not go back to
-- buckets that have been left.
local function load(key, width)
  local w = { width = width, i = bucket(now, width), newest = 0, sum = 0, body = zeros(RING) }
  local s = redis.call('GET', key)
  if s then
    if #s ~= 8 * (RING + 2) then error('limit: ' .. key .. ' is no window') end
    w.found = true
    w.newest, w.sum = struct.unpack('>I8I8', s)
    w.body = s:sub(17)
  end
  if w.newest > w.i then w.i = w.newest end
  local gone = w.i - w.newest
  if gone >= RING then
    w.sum, w.body = 0, zeros(RING)
  elseif gone > 0 then
    local first = math.fmod(w.newest + 1, RING)
    for k = 0, gone - 1 do w.sum = w.sum - counter(w.body, math.fmod(first + k, RING)) end
    local tail = math.min(gone, RING - first)
    w.body = w.body:sub(1, 8 * first) .. zeros(tail) .. w.body:sub(8 * (first + tail) + 1)
    if gone > tail then w.body = zeros(gone - tail) .. w.body:sub(8 * (gone - tail) + 1) end
  end
  return w
end

-- add counts a weight in bucket j, if that still counts.
local function add(w, j, weight)
  if j <= w.i - RING or j > w.i then return end
  weight = math.min(weight, MAX - w.sum)
  local slot = math.fmod(j, RING)
  w.sum = w.sum + weight
  w.body = put(w.body, slot, counter(w.body, slot) + weight)
end

local function refund(w, j, weight)
  if j <= w.i - RING or j > w.i then return end
  local slot = math.fmod(j, RING)
  local has = counter(w.body, slot)
  weight = math.min(weight, has)
  w.sum = w.sum - weight
  w.body = put(w.body, slot, has - weight)
end

local function save(key, w)
  redis.call('SET', key, struct.pack('>I8I8', w.i, w.sum) .. w.body, 'PX', math.ceil(62 * w.width / 1000))
end

-- wait is how long it takes until an excess has left; 0: it never does.
local function wait(w, excess)
  for j = math.max(0, w.i - RING + 1), w.i do
    excess = excess - counter(w.body, math.fmod(j, RING))
    if excess <= 0 then return (j + RING) * w.width - now end
  end
  return 0
end

-- reset is how long it takes until all has left.
local function reset(w)
  if w.sum == 0 then return 0 end
  for j = w.i, math.max(0, w.i - RING + 1), -1 do
    if counter(w.body, math.fmod(j, RING)) > 0 then return (j + RING) * w.width - now end
  end
  return 0
end

-- Slots in use are a hash: process -> count|touched|sequence. Counts are absolute,
-- so that telling one twice does no harm; the sequence keeps an older one that
-- comes late from replacing a newer one, which includes it. What was not touched
-- for ten seconds does not count. A touch in the future, by a clock that has
-- stepped back since, counts as one of now.

local STALE = 10e6

local function slots(key, process)
  local h = { others = 0, count = 0, seq = 0, stale = {}, ahead = {} }
  local all = redis.call('HGETALL', key)
  for k = 1, #all, 2 do
    local count, touched, seq = all[k + 1]:match('^(%d+)|(%d+)|(%d+)$')
    count, touched, seq = tonumber(count), tonumber(touched), tonumber(seq)
    if all[k] == process then
      h.count, h.seq = count, seq
    elseif now - touched > STALE then
      h.stale[#h.stale + 1] = all[k]
    else
      h.others = h.others + count
      if touched > now then
        h.ahead[#h.ahead + 1] = all[k]
        h.ahead[#h.ahead + 1] = string.format('%.0f|%.0f|%.0f', count, now, seq)
      end
    end
  end
  return h
end

local function hold(key, process, h, count, seq)
  if seq > h.seq then h.count, h.seq = count, seq end
  if #h.stale > 0 then redis.call('HDEL', key, unpack(h.stale)) end
  redis.call('HSET', key, process, string.format('%.0f|%.0f|%.0f', h.count, now, h.seq), unpack(h.ahead))
  redis.call('PEXPIRE', key, 20000)
end
