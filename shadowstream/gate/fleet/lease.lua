-- One lease of one limit that many processes share.
--
-- A limit is the leaky bucket of ITU-T I.371, kept as one moment: when all that was leased will have drained. Leases are
-- reserved first come, first served, also ahead of time: whoever gets one is told how long to wait until it is earned.
-- So a member that asks once has its place, and need not ask again and again. All times are this server's, in us.
--
-- A member that has not been heard of for a while may be cut off, and then it goes by its own share of the rate. So the
-- others get only what is left. A member that is forgotten goes by nothing at all any more.
--
-- KEYS[1]  the bucket: when it will have drained, us for each message, burst
-- KEYS[2]  the members, by when they were last heard of
-- ARGV     1 rate per s  2 burst  3 messages wanted  4 how far ahead is reserved, us
--          5 silent after, us  6 the bucket is kept for, us  7 "1" from a member that went by its own share until now
--          8 how far ahead this member's last lease lies, us
-- Returns  {messages, us to wait until they are earned (none: until it is worth asking again), members known}

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local rate, burst, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local ahead, silent, kept = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])

-- Who is there is beat.lua's to write down; whoever asks is there, also when that was just lost.
local known = math.max(redis.call('ZCARD', KEYS[2]), 1)
local heard = math.max(redis.call('ZCOUNT', KEYS[2], string.format('%.0f', now - silent), '+inf'), 1)
local each = 1000000 * known / (rate * heard)

-- A bucket that is not there was lost, or is new: nobody knows what was admitted a moment ago, so its burst is gone, and
-- what this member still holds counts. So it is after a time in which members went by their own shares.
local drained = now + tonumber(ARGV[8])
local last, last_each, last_burst = string.match(redis.call('GET', KEYS[1]) or '', '(%S+) (%S+) (%S+)')
if last then
    -- In messages, for the limit may be another one than at the last lease: no burst is given for the change.
    drained = now - math.min((now - last) / last_each, tonumber(last_burst)) * each
end
if ARGV[7] == '1' and drained < now then
    drained = now
end
drained = math.max(drained, now - burst * each)

-- One message can be reserved however slow the rate is; whoever gets none is told when to ask again.
ahead = math.max(ahead, each)
local granted = math.min(wanted, math.floor((now + ahead - drained) / each))
local wait = drained + each - ahead
if granted > 0 then
    drained = drained + granted * each
    wait = drained
end
-- Lua's own way to write a number would cut it to 14 digits, which is milliseconds.
redis.call('SET', KEYS[1], string.format('%.3f %.17g %d', drained, each, burst), 'PX',
    math.ceil((burst * each + ahead + kept) / 1000))
return {math.max(granted, 0), math.ceil(math.max(wait - now, 0)), known}
