"""The Lua scripts of a `RedisFleet`. Redis runs each of them as one atomic step, by its own clock.

Times are in milliseconds. Redis 6.2 or later is needed.
"""

# How long Redis knows that a client of the fleet has sent a request.
STATE_EXPIRES_AFTER = 2_000
# How long the state is fresh after it was lost, or after no client has sent a request for a while.
FRESH_FOR = 4_000
# How long a client is a member after its last request.
MEMBER_FOR = 60_000
# A call that waits for a place asks at least four times in a second. After this time it has ended.
_WAITS_FOR = 1_500
_LONGEST_WAIT = 250
_QUEUE_STATE_KEPT_FOR = 2 * 24 * 3600 * 1000
_DELIVERIES_KEPT_FOR = 7 * 24 * 3600 * 1000

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

# Begins the scripts that keep the membership. Its result is the table `fleet`.
_JOIN = f"""
{_NOW}
local alive, fresh, members, members_until = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local member = ARGV[1]

-- The key `alive` is missing after Redis lost its data, and after all clients were cut off from Redis.
-- In both cases Redis does not know of the calls that they have made since.
if not redis.call('SET', alive, 1, 'PX', {STATE_EXPIRES_AFTER}, 'XX') then
  redis.call('SET', alive, 1, 'PX', {STATE_EXPIRES_AFTER})
  redis.call('SET', fresh, 1, 'PX', {FRESH_FOR})
end

-- Count the members of the last minute. In `members` all scores are equal, so that the order is that of
-- the ids.
redis.call('ZADD', members, 0, member)
redis.call('ZADD', members_until, now + {MEMBER_FOR}, member)
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', members_until, '-inf', now)) do
  redis.call('ZREM', members, gone)
  redis.call('ZREM', members_until, gone)
end
redis.call('PEXPIRE', members, {MEMBER_FOR})
redis.call('PEXPIRE', members_until, {MEMBER_FOR})

local fresh_for = math.max(0, redis.call('PTTL', fresh))
local fleet = {{now, fresh_for, redis.call('ZRANK', members, member), redis.call('ZCARD', members)}}
"""

# Returns {now, fresh_for, rank, members}.
HEARTBEAT = f"""
{_JOIN}
return fleet
"""

# Asks for a place for a call. A call that was asked for already keeps its position in the queue.
# Returns {now, fresh_for, rank, members, granted, wait, blocked_for}.
ASK_FOR_PLACE = f"""
{_JOIN}
local places, queue, queue_until, block = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local call, slot_taken = ARGV[2], ARGV[3] == '1'
local answer_until, most_places, held_for = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])

local function answer(granted, wait, blocked_for)
  if granted then
    redis.call('ZADD', places, now + held_for, call)
    redis.call('PEXPIRE', places, held_for)
    redis.call('ZREM', queue, call)
    redis.call('ZREM', queue_until, call)
  end
  return {{fleet[1], fleet[2], fleet[3], fleet[4], granted and 1 or 0, wait, blocked_for}}
end

-- The client no longer waits for this answer: Redis was paused, or is slow.
if now > answer_until then return answer(false, 0, 0) end

-- While the service blocks the organisation, no call is made.
local blocked_for = math.max(0, redis.call('PTTL', block))
if blocked_for > 0 then return answer(false, blocked_for, blocked_for) end

-- While the state is fresh, clients go by their fixed slots. Their calls take places all the same, so
-- that the places are known when the state is no longer fresh.
if fresh_for > 0 then return answer(slot_taken, 0, 0) end

-- Remove places that have ended, and calls that no longer wait.
redis.call('ZREMRANGEBYSCORE', places, '-inf', now)
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', queue_until, '-inf', now)) do
  redis.call('ZREM', queue, gone)
  redis.call('ZREM', queue_until, gone)
end

-- Wait in the order of the first question, in microseconds: several calls may ask in one millisecond.
redis.call('ZADD', queue, 'NX', time[1] * 1000000 + time[2], call)
redis.call('ZADD', queue_until, now + {_WAITS_FOR}, call)
redis.call('PEXPIRE', queue, {_WAITS_FOR})
redis.call('PEXPIRE', queue_until, {_WAITS_FOR})
local ahead = redis.call('ZRANK', queue, call)
local free = most_places - redis.call('ZCARD', places)
if ahead < free then return answer(true, 0, 0) end

-- Ask again when enough places have ended for this call and for those ahead of it. A response may end a
-- place earlier, so ask again soon.
local place = redis.call('ZRANGE', places, ahead - free, ahead - free, 'WITHSCORES')
local wait = place[2] and place[2] - now or {_LONGEST_WAIT}
return answer(false, math.min(wait, {_LONGEST_WAIT}), 0)
"""

# A response began: the call keeps its place for `kept_for` longer, unless the place ends earlier.
END_IN_FLIGHT = f"""
{_NOW}
local places, call, kept_for = KEYS[1], ARGV[1], ARGV[2]
redis.call('ZADD', places, 'XX', 'LT', now + kept_for, call)
"""

# A call was cancelled before it was made.
GIVE_BACK_PLACE = """
local places, queue, queue_until, call = KEYS[1], KEYS[2], KEYS[3], ARGV[1]
redis.call('ZREM', places, call)
redis.call('ZREM', queue, call)
redis.call('ZREM', queue_until, call)
"""

# The service blocks an organisation. A shorter block does not end a longer one.
BLOCK = """
local block, blocked_for = KEYS[1], tonumber(ARGV[1])
if redis.call('PTTL', block) < blocked_for then
  redis.call('SET', block, 1, 'PX', blocked_for)
end
"""

# Takes the turn to poll a queue, unless another client has it. The lease ends the turn of a client that
# no longer renews it.
# Returns {taken, now, permitted_at, permitted_time, next_at, early_answers, leads}.
BEGIN_TURN = f"""
{_NOW}
local turn, queue = KEYS[1], KEYS[2]
local member, lease = ARGV[1], ARGV[2]
local holder = redis.call('GET', turn)
if holder and holder ~= member then return {{0}} end
redis.call('SET', turn, member, 'PX', lease)
local fields = {{'permitted_at', 'permitted_time', 'next_at', 'early_answers', 'leads'}}
return {{1, now, unpack(redis.call('HMGET', queue, unpack(fields)))}}
"""

# The turn was taken for a task that was cancelled.
GIVE_BACK_TURN = """
local turn, member = KEYS[1], ARGV[1]
if redis.call('GET', turn) == member then redis.call('DEL', turn) end
"""

# Renews the leases of turns.
RENEW_TURNS = """
local member, lease = ARGV[1], ARGV[2]
for _, turn in ipairs(KEYS) do
  if redis.call('GET', turn) == member then redis.call('PEXPIRE', turn, lease) end
end
"""

# Stores what is known about a queue, and ends the turn. If the turn was lost, another client may have
# polled since, so only a later permitted time is stored.
END_TURN = f"""
{_NOW}
local turn, queue = KEYS[1], KEYS[2]
local member, permitted_at, permitted_time = ARGV[1], now + ARGV[2], ARGV[3]
local next_at, early_answers, leads = now + ARGV[4], ARGV[5], ARGV[6]
local is_holder = redis.call('GET', turn) == member
local stored = tonumber(redis.call('HGET', queue, 'permitted_at') or 0)
if is_holder or permitted_at > stored then
  redis.call('HSET', queue, 'permitted_at', permitted_at, 'permitted_time', permitted_time,
    'next_at', next_at, 'early_answers', early_answers, 'leads', leads)
  redis.call('PEXPIRE', queue, {_QUEUE_STATE_KEPT_FOR})
end
if is_holder then redis.call('DEL', turn) end
"""

# Counts a delivery. A delivery has an id, so that a repeated request counts it once.
# Returns {count}.
BEGIN_DELIVERY = f"""
local deliveries, delivery = KEYS[1], ARGV[1]
redis.call('SADD', deliveries, delivery)
redis.call('PEXPIRE', deliveries, {_DELIVERIES_KEPT_FOR})
return {{redis.call('SCARD', deliveries)}}
"""

END_DELIVERY = """
redis.call('DEL', KEYS[1])
"""
