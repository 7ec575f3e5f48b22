-- Writes the body of a post as the log has it, unless its author deleted it.
-- KEYS: the post   ARGV: author, value ("P" author "," body)
-- Returns 1 if the body is there now, 0 if the post is deleted.
local kept = redis.call('GET', KEYS[1])
if kept == ARGV[2] then
  return 1
end
if kept and string.sub(kept, 1, 1) == 'T' and string.find(kept, ',' .. ARGV[1] .. ',', 1, true) then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2])
return 1
