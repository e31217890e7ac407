-- Forgets variants and their lines of the index. It returns the fields of those that there were.
-- KEYS: the hash. ARGV: fields.
local old = redis.call('HGET', KEYS[1], 'i')
if not old then
  return {}
end
local wanted, lines, gone = {}, {}, {}
for _, field in ipairs(ARGV) do
  wanted[field] = true
end
for line in string.gmatch(old, '[^\n]+') do
  local field = string.match(line, '^(%x+) ')
  if field and wanted[field] then
    gone[#gone + 1] = field
  else
    lines[#lines + 1] = line
  end
end
if #lines == 0 then
  redis.call('UNLINK', KEYS[1])
elseif #gone > 0 then
  redis.call('HSET', KEYS[1], 'i', table.concat(lines, '\n'))
  redis.call('HDEL', KEYS[1], unpack(gone))
end
return gone
