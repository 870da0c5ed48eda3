-- A breaker has opened in one process: the others open theirs, until the same moment.
--
-- KEYS[1]  breakers that are open, by when they half-open, in us of this server's clock
-- ARGV     1 command  2 open for, us  3 kept for, us

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]

redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now + tonumber(ARGV[2])))
redis.call('PEXPIRE', KEYS[1], math.ceil((tonumber(ARGV[2]) + tonumber(ARGV[3])) / 1000))
return 1
