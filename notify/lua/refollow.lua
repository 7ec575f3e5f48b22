-- Writes a follow as the whole log has it, unless something newer is known.
-- KEYS: followers, those who ended, subscribers
-- ARGV: follower, version, live edge as in edge.lua ("" it ended), since when they
--       want every post ("" they do not), milliseconds to remember an end (0 not)
-- Returns 1 if it was written, else 0.
local known = redis.call('HGET', KEYS[1], ARGV[1])
local version = known and string.sub(known, -19) or redis.call('HGET', KEYS[2], ARGV[1])
if version and version > ARGV[2] then
  return 0
end
if ARGV[3] ~= '' then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
  redis.call('HDEL', KEYS[2], ARGV[1])
else
  redis.call('HDEL', KEYS[1], ARGV[1])
  if tonumber(ARGV[5]) > 0 then
    redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
    redis.call('PEXPIRE', KEYS[2], ARGV[5])
  end
end
if ARGV[4] ~= '' then
  redis.call('HSET', KEYS[3], ARGV[1], ARGV[4])
else
  redis.call('HDEL', KEYS[3], ARGV[1])
end
return 1
