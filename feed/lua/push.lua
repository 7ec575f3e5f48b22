-- Pushes a late or repeated post into a home feed that exists: between a newer entry
-- and an older one. doc.go says why any such place will do where entries are out of
-- order. During a catch-up after an outage all posts are late, and far from the head,
-- so a few looks must find it. A copy that a crash left is seen only if it lies in that
-- very place; else it is the reader's to drop, as with ordinary pushes.
-- KEYS: the feed   ARGV: post id, "1" if this is a repeat, else ""
-- Returns the length of the list, 0 if the feed is cold.
local key, id = KEYS[1], ARGV[1]

-- A copy may lie anywhere: a push that hung in a connection may have landed in front of
-- newer ones. LREM walks 800 entries in less time than a script reads 200 of them.
if ARGV[2] == '1' then
  redis.call('LREM', key, 0, id)
end
local head = redis.call('LINDEX', key, 0)
if not head then
  return 0
end
-- The sentinel and the marker of a builder, of another length than ids, are the end of
-- every list and count as older than all.
local function newer(entry)
  return #entry == #id and entry > id
end
if head ~= id and not newer(head) then
  return redis.call('LPUSH', key, id)
end

-- Near the head first, then by halves: the entry before `from` is newer, that at `to`,
-- if there is one, is not. LINSERT finds the place again by value; should a repeat of
-- that entry lie further in front, there is as good.
local length = redis.call('LLEN', key)
local from, to, at = 0, length, 8
while to - from > 16 do
  if newer(redis.call('LINDEX', key, at)) then
    from = at + 1
  else
    to = at
  end
  at = to < length and math.floor((from + to) / 2) or math.min(8 * at, length - 1)
end
for _, entry in ipairs(redis.call('LRANGE', key, from, to)) do
  if entry == id then
    return length
  elseif not newer(entry) then
    return redis.call('LINSERT', key, 'BEFORE', entry, id)
  end
end
-- Without an entry to stand before, the post is older than the last of a trimmed list:
-- a reader finds it in the author's list. Appending it would claim that everything in
-- between is here.
return length
