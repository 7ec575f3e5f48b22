-- Begins to build a cold feed: from here on pushes land in the list.
-- KEYS: the feed, its marks, its edition   ARGV: marker, milliseconds until a dead builder is
-- forgotten
-- Returns 1, or 0 if the feed is there or being built.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
-- The marks of a list that expired.
redis.call('DEL', KEYS[2])
redis.call('SET', KEYS[3], ARGV[1])
redis.call('RPUSH', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
