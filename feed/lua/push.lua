-- Pushes a late or repeated post into a home feed that exists, in sorted place. A
-- repeat is pushed once: entries may be out of order by less than the disorder (see
-- doc.go), so nothing beyond the first entry that is older than that can be a copy.
-- A post that is only late is not searched for: during a catch-up after an outage
-- all posts are late, and in a feed with hundreds of posts in two minutes the
-- search costs 100 times the push. The copy that a crash may leave then is the
-- reader's to drop, as with ordinary pushes.
-- KEYS: the feed   ARGV: post id, post id minus the disorder or "" if it is no repeat
-- Returns the length of the list, 0 if the feed is cold.
local key, id, horizon = KEYS[1], ARGV[1], ARGV[2]

-- During a catch-up most posts are newer than all before them, if not new.
local head = redis.call('LINDEX', key, 0)
if not head then
  return 0
end
if horizon == '' and #head == #id and id > head then
  return redis.call('LPUSH', key, id)
end

-- Looks for the first entry behind which the post belongs, and for a copy.
local function look()
  local first, step, before = 0, horizon == '' and 2 or 16, nil
  while true do
    local part = redis.call('LRANGE', key, first, first + step - 1)
    for _, entry in ipairs(part) do
      if entry == id then
        return before, true
      end
      -- The sentinel and the marker of a builder are the end of every list.
      local last = #entry ~= #id
      if not before and (last or entry < id) then
        before = entry
      end
      if last or (before and horizon == '') or entry < horizon then
        return before, false
      end
    end
    if #part < step then
      return before, false
    end
    first, step = first + step, step * 4
  end
end

local before, copy = look()
if copy then
  -- A push that hung in a connection may have landed in front of newer ones.
  redis.call('LREM', key, 0, id)
  before = look()
end
-- Without an entry to stand before, the post is older than all that a trimmed list
-- holds: a reader finds it in the author's list. Appending it would claim that
-- everything in between is here.
if before then
  redis.call('LINSERT', key, 'BEFORE', before, id)
end
return redis.call('LLEN', key)
