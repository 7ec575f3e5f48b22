-- Removes a registration of at most a version: a newer one survives.
-- KEYS: devices, outcomes   ARGV: device, version
-- Returns 1 if it was removed, else 0.
local known = redis.call('HGET', KEYS[1], ARGV[1])
if not known or string.sub(known, 1, 19) > ARGV[2] then
  return 0
end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
return 1
