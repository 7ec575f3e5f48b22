-- Leases jobs that are due: each is due again when the lease is over, unless it is
-- settled before. A lease is "claims token"; claims counts those in a row that were
-- not settled.
-- KEYS: due, body, lease (HASH id -> lease)
-- ARGV: now in ms, how many, end of the lease in ms, token
-- Returns when the next one is due in ms ("" if none), then id, body, claims of each.
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
local jobs = {''}
for _, id in ipairs(ids) do
  local before = redis.call('HGET', KEYS[3], id)
  local claims = 1
  if before then
    claims = tonumber(string.match(before, '^%d+')) + 1
  end
  redis.call('ZADD', KEYS[1], 'XX', ARGV[3], id)
  redis.call('HSET', KEYS[3], id, claims .. ' ' .. ARGV[4])
  jobs[#jobs + 1] = id
  jobs[#jobs + 1] = redis.call('HGET', KEYS[2], id) or ''
  jobs[#jobs + 1] = claims
end
local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if first[2] then
  jobs[1] = first[2]
end
return jobs
