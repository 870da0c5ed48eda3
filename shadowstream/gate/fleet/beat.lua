-- A member's sign of life: it says which kill it has seen last, and hears which runs may go on.
--
-- KEYS[1]  the members, by when they were last heard of
-- KEYS[2]  the runs, by when their leases end, us        KEYS[3]  how many kills there were
-- KEYS[4]  the last kill that each member has seen       KEYS[5]  what is laid over the configuration
-- KEYS[6]  the breakers that are open, by when they half-open, us
-- ARGV     1 member  2 forgotten after, us  3 the last kill it has seen
-- Returns  {members known, kills, version of what is laid over the configuration ('': nothing was),
--           open breakers, command, moment, us left, command, moment, us left, ..., run, us left, run, us left, ...}

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local forgotten = tonumber(ARGV[2])

redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
local gone = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', now - forgotten))
for _, each in ipairs(gone) do
    redis.call('ZREM', KEYS[1], each)
    redis.call('HDEL', KEYS[4], each)
end
redis.call('HSET', KEYS[4], ARGV[1], ARGV[3])
for _, key in ipairs({KEYS[1], KEYS[4]}) do
    redis.call('PEXPIRE', key, math.ceil(forgotten / 1000))
end

local told = {
    redis.call('ZCARD', KEYS[1]),
    tonumber(redis.call('GET', KEYS[3])) or 0,
    redis.call('HGET', KEYS[5], 'version') or '',
    0
}
local breakers = redis.call('HGETALL', KEYS[6])
for at = 1, #breakers, 2 do
    local left = tonumber(breakers[at + 1]) - now
    if left > 0 then
        told[4] = told[4] + 1
        table.insert(told, breakers[at])
        table.insert(told, breakers[at + 1])
        table.insert(told, math.floor(left))
    else
        redis.call('HDEL', KEYS[6], breakers[at])
    end
end
local runs = redis.call('HGETALL', KEYS[2])
for at = 1, #runs, 2 do
    local left = tonumber(runs[at + 1]) - now
    if left > 0 then
        table.insert(told, runs[at])
        table.insert(told, math.floor(left))
    else
        redis.call('HDEL', KEYS[2], runs[at])
    end
end
return told
