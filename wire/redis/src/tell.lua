-- KEYS: the head, the log of URLs, that of purges. ARGV: how many entries a log has, whose these are, and for each
-- whether it is a purge, and what. Returns the numbers they have.
local head = head()
local last, now, numbers = tonumber(head[2]), moment(), {}
for at = 3, #ARGV, 2 do
  last = math.max(last + 1, now)
  local is_purge = ARGV[at] == '1'
  local log, floor = KEYS[2], 'urls'
  if is_purge then log, floor = KEYS[3], 'purges' end
  redis.call('XADD', log, text(last) .. '-0', 'by', ARGV[2], 'what', ARGV[at + 1])
  if redis.call('XLEN', log) > tonumber(ARGV[1]) then
    local first = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1][1]
    redis.call('XDEL', log, first)
    redis.call('HSET', KEYS[1], floor, string.match(first, '^%d+'))
  end
  numbers[#numbers + 1] = text(last)
end
redis.call('HSET', KEYS[1], 'last', text(last))
return numbers
