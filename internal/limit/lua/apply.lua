-- Tells one limit, whatever it allows, what has happened.
-- KEYS: the limit's. ARGV:
--   'add', width, then age and weight in pairs: charges what was not taken here
--   'refund', width, bucket, weight: gives back what was
--   'slots', process, count, sequence
if ARGV[1] == 'slots' then
  hold(KEYS[1], ARGV[2], slots(KEYS[1], ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]))
  return 1
end
local w = load(KEYS[1], tonumber(ARGV[2]))
if ARGV[1] == 'refund' then
  if not w.found then return 0 end
  refund(w, tonumber(ARGV[3]), tonumber(ARGV[4]))
else
  for k = 3, #ARGV, 2 do
    local age = tonumber(ARGV[k])
    add(w, age == 0 and w.i or bucket(math.max(0, now - age), w.width), tonumber(ARGV[k + 1]))
  end
end
save(KEYS[1], w)
return 1
