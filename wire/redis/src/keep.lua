-- KEYS: a URL. ARGV: what it was called when somebody began to fetch, for how long, how many fields it may have, and
-- pairs of fields and values. 0 where it was made worthless meanwhile.
local name = redis.call('HGET', KEYS[1], 'g') or ''
if name ~= ARGV[1] then return 0 end
if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[3]) then
  redis.call('UNLINK', KEYS[1])
  if name ~= '' then redis.call('HSET', KEYS[1], 'g', name) end
end
for at = 4, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 1]) end
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 1
