-- KEYS: the head, the log of URLs, that of purges. ARGV: where a reader has got to in both, and how many he takes.
local head = head()
local urls = redis.call('XRANGE', KEYS[2], '(' .. ARGV[1] .. '-0', '+', 'COUNT', ARGV[3])
local purges = redis.call('XRANGE', KEYS[3], '(' .. ARGV[2] .. '-0', '+', 'COUNT', ARGV[3])
return { head[1], head[2], head[3], head[4], urls, purges }
