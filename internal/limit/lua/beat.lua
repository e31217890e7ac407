-- A node's sign of life. KEYS: epoch, nodes.
-- ARGV: the node, the epoch it knows or empty, a new one, 1 if it misses counters,
-- the number that it divides limits by.
-- Returns the epoch, when counters were last lost (0: never), when the epoch was
-- made, now, the number of nodes, and 1 if every other node divides by as many.
--
-- The epoch is id|lost|made. It goes when Redis loses its data, and whoever has
-- known another one notices. A node that has just started cannot know that
-- anything was lost, so that whoever does says so in an epoch that was made
-- without that.
local id, lost, made = (redis.call('GET', KEYS[1]) or ''):match('^(%x+)|(%d+)|(%d+)$')
lost, made = tonumber(lost), tonumber(made)
local known = ARGV[2] ~= ''
if not id then
  id, made, lost = ARGV[3], now, known and now or 0
elseif known and (ARGV[2] ~= id and lost == 0 or ARGV[2] == id and ARGV[4] == '1') then
  id, lost = ARGV[3], now
end
redis.call('SET', KEYS[1], string.format('%s|%.0f|%.0f', id, lost, made), 'PX', 400 * 86400000)

local n, least = 1, math.huge
local all = redis.call('HGETALL', KEYS[2])
for k = 1, #all, 2 do
  local touched, divisor = all[k + 1]:match('^(%d+)|(%d+)$')
  touched, divisor = tonumber(touched), tonumber(divisor)
  if all[k] == ARGV[1] then
    -- this one
  elseif now - touched > 10e6 then
    redis.call('HDEL', KEYS[2], all[k])
  else
    n = n + 1
    least = math.min(least, divisor)
    if touched > now then redis.call('HSET', KEYS[2], all[k], string.format('%.0f|%.0f', now, divisor)) end
  end
end
-- What is told is never more than what the node goes by, even if this answer is
-- lost: the others take it for certain.
redis.call('HSET', KEYS[2], ARGV[1], string.format('%.0f|%.0f', now, math.min(n, tonumber(ARGV[5]))))
redis.call('PEXPIRE', KEYS[2], 60000)
return { id, lost, made, now, n, least >= n and 1 or 0 }
