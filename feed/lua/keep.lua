-- Keeps the body of a post, unless its author deleted it.
-- KEYS: the post   ARGV: author, value ("P" author "," body)
-- Returns 1 if the body is there now, 0 if the post is deleted.
local kept = redis.call('GET', KEYS[1])
if kept then
  if string.sub(kept, 1, 1) == 'P' then
    return 1
  end
  if string.find(kept, ',' .. ARGV[1] .. ',', 1, true) then
    return 0
  end
end
redis.call('SET', KEYS[1], ARGV[2])
return 1
