-- Moves the read position of a feed forward.
-- KEYS: the position   ARGV: post id
-- Returns 1 if it moved, 0 if it was there or ahead.
local seen = redis.call('GET', KEYS[1])
if seen and seen >= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1])
return 1
