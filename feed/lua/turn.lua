-- Replaces the generation of an author's followers, and with it the state, if it
-- is still the one that was read.
-- KEYS: followers   ARGV: generation that was read, the new one
-- Returns 1, or 0 if it is another one.
if redis.call('HGET', KEYS[1], '#') ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[1], '#', ARGV[2])
return 1
