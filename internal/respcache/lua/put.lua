-- Keeps a variant and its line of the index.
-- KEYS: the hash. ARGV: field, line, value, now (Unix ms), time to live (ms), how many variants there may be.
local lines, gone = {ARGV[2]}, {}
local old = redis.call('HGET', KEYS[1], 'i')
if old then
  for line in string.gmatch(old, '[^\n]+') do
    local field, till = string.match(line, '^(%x+) (%d+) ')
    if field and field ~= ARGV[1] then
      if #lines < tonumber(ARGV[6]) and tonumber(till) > tonumber(ARGV[4]) then
        lines[#lines + 1] = line
      else
        gone[#gone + 1] = field
      end
    end
  end
end
redis.call('HSET', KEYS[1], 'i', table.concat(lines, '\n'), ARGV[1], ARGV[3])
if #gone > 0 then
  redis.call('HDEL', KEYS[1], unpack(gone))
end
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[5]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[5])
end
return #lines
