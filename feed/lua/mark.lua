-- Marks a home feed that exists: an author's posts will not be pushed into it.
-- KEYS: the feed, its marks   ARGV: author   Returns 1, or 0 if the feed is cold.
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
redis.call('SADD', KEYS[2], ARGV[1])
return 1
