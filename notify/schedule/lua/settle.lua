-- Ends a lease: the job is done, or goes on later. Items that joined meanwhile stay
-- behind what is kept, and keep the job.
-- KEYS: due, body, lease
-- ARGV: id, token, bytes of the body that the worker had, when what is left is due
--       in ms, "1" done | "0" later, what is kept of the worker's part if later
-- Returns 1 if the lease was the caller's, else 0: it ran out, and nothing changes.
local id = ARGV[1]
local lease = redis.call('HGET', KEYS[3], id)
if not lease or string.match(lease, ' (.*)$') ~= ARGV[2] then
  return 0
end
redis.call('HDEL', KEYS[3], id)
local rest = string.sub(redis.call('HGET', KEYS[2], id) or '', tonumber(ARGV[3]) + 1)
if ARGV[5] == '1' and rest == '' then
  redis.call('ZREM', KEYS[1], id)
  redis.call('HDEL', KEYS[2], id)
  return 1
end
if ARGV[5] == '0' then
  rest = ARGV[6] .. rest
end
redis.call('HSET', KEYS[2], id, rest)
redis.call('ZADD', KEYS[1], ARGV[4], id)
return 1
