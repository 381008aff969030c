-- The first lines of both scripts of the log. KEYS[1]: when it began, its last number, and up to which numbers entries
-- have been thrown away. Numbers are moments in microseconds, so that those of a log that follows one that was lost are
-- larger; and what a lost one may have had is thrown away.
local function moment()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end
local function text(number) return string.format('%.0f', number) end
local function head()
  local head = redis.call('HMGET', KEYS[1], 'began', 'last', 'urls', 'purges')
  if head[1] then return head end
  local now = text(moment())
  redis.call('HSET', KEYS[1], 'began', now, 'last', now, 'urls', now, 'purges', now)
  return { now, now, now, now }
end
