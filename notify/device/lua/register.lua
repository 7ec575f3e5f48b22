-- Writes a registration, unless a newer one is known.
-- KEYS: devices (HASH id -> 19 digits of version, registration), outcomes (HASH)
-- ARGV: device, version, registration
-- Returns 1 if it was written, else 0.
local known = redis.call('HGET', KEYS[1], ARGV[1])
local before = known and string.sub(known, 1, 19) or ''
if before >= ARGV[2] then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ARGV[3])
-- Who registers again begins anew: what was refused before says nothing.
redis.call('HDEL', KEYS[2], ARGV[1])
return 1
