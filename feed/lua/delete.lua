-- Puts a tombstone of one author in the place of a post. Where the body is not
-- known, the tombstone binds this author alone, so that nobody can delete another
-- one's post before it arrives.
-- KEYS: the post   ARGV: author, milliseconds to keep the tombstone
-- Returns 1, or 0 if the post is another author's.
local kept = redis.call('GET', KEYS[1])
if kept and string.sub(kept, 1, 1) == 'P' then
  local own = 'P' .. ARGV[1] .. ','
  if string.sub(kept, 1, #own) ~= own then
    return 0
  end
  kept = false
end
local gone = kept or 'T,'
if not string.find(gone, ',' .. ARGV[1] .. ',', 1, true) then
  -- 4 KB are more than sixty users who deleted one post that nobody knows.
  if #gone > 4096 then
    gone = 'T,'
  end
  gone = gone .. ARGV[1] .. ','
end
redis.call('SET', KEYS[1], gone, 'PX', ARGV[2])
return 1
