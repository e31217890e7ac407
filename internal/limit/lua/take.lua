-- Takes what one request demands of all these limits, or nothing.
-- KEYS: the epoch's if ARGV[1] is not empty, then one for each limit.
-- ARGV: the epoch, the process, then for each limit
--   'w', amount, weight, width of a bucket, 1 if the window must be there, or
--   's', amount, slots that the process would have, sequence, 0.
-- Returns {status, now}, status -1: another epoch, -2: a window was lost, else 1
-- or 0 followed for each limit by fits, sum, bucket or other processes' slots, µs
-- until all is free, µs until the weight fits, -1 if never.
local first = 1
if ARGV[1] ~= '' then
  first = 2
  local e = redis.call('GET', KEYS[1])
  if not e or e:match('^%x+') ~= ARGV[1] then return { -1, now } end
end

local all, ok = {}, true
for n = 0, #KEYS - first do
  local a = 3 + 5 * n
  local l = { key = KEYS[first + n], amount = tonumber(ARGV[a + 1]), weight = tonumber(ARGV[a + 2]) }
  if ARGV[a] == 'w' then
    l.w = load(l.key, tonumber(ARGV[a + 3]))
    if ARGV[a + 4] == '1' and not l.w.found then return { -2, now } end
    l.fits = l.w.sum + l.weight <= l.amount
  else
    l.h, l.seq = slots(l.key, ARGV[2]), tonumber(ARGV[a + 3])
    l.sum = l.h.others + (l.seq > l.h.seq and l.weight or l.h.count)
    l.fits = l.sum <= l.amount
  end
  ok = ok and l.fits
  all[#all + 1] = l
end

local answer = { ok and 1 or 0, now }
for _, l in ipairs(all) do
  local sum, index, free, retry = l.sum, l.h and l.h.others or 0, 0, 0
  if l.w then
    if ok then
      add(l.w, l.w.i, l.weight)
      save(l.key, l.w)
    elseif l.weight > l.amount then
      retry = -1
    elseif not l.fits then
      retry = wait(l.w, l.w.sum + l.weight - l.amount)
    end
    sum, index, free = l.w.sum, l.w.i, reset(l.w)
  elseif ok then
    hold(l.key, ARGV[2], l.h, l.weight, l.seq)
  end
  for _, v in ipairs({ l.fits and 1 or 0, sum, index, free, retry }) do answer[#answer + 1] = v end
end
return answer
