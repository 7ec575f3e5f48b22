-- Reads the posts of an author that are older than a cursor.
-- KEYS: author list   ARGV: cursor, count   Returns the ids, newest first.
local low, high = 0, redis.call('LLEN', KEYS[1])
while low < high do
  local middle = math.floor((low + high) / 2)
  if redis.call('LINDEX', KEYS[1], middle) >= ARGV[1] then
    low = middle + 1
  else
    high = middle
  end
end
return redis.call('LRANGE', KEYS[1], low, low + ARGV[2] - 1)
