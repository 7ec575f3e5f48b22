-- Marks a home feed that exists: an author's posts will not be pushed into it.
-- KEYS: the feed, its marks, its edition   ARGV: author, a new name for the edition
-- Returns 1, or 0 if the feed is cold.
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
if redis.call('SADD', KEYS[2], ARGV[1]) == 1 then
  local edition = redis.call('GET', KEYS[3])
  if edition then
    redis.call('SET', KEYS[3], string.sub(edition, 1, 1) .. ARGV[2])
  end
end
return 1
