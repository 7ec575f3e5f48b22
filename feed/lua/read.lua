-- Reads a part of a home feed.
-- KEYS: the feed, its marks, the edition of what the user sees
-- ARGV: newest id that may matter ("" for the head), count
-- Returns {} if the feed is cold, else {last entry, milliseconds to live,
-- "1" if the part reaches the end, edition, number of marks, marks ..., entries ...}.
local key, bound = KEYS[1], ARGV[1]
local n = redis.call('LLEN', key)
if n == 0 then
  return {}
end
local low = 0
if bound ~= '' then
  -- All entries before one that is newer than the bound are newer than the
  -- cursor, so bisecting finds a safe place to begin, if not always the last one.
  local high = n
  while low < high do
    local middle = math.floor((low + high) / 2)
    local entry = redis.call('LINDEX', key, middle)
    if #entry == #bound and entry > bound then
      low = middle + 1
    else
      high = middle
    end
  end
end
local entries = redis.call('LRANGE', key, low, low + ARGV[2] - 1)
local reply = redis.call('SMEMBERS', KEYS[2])
table.insert(reply, 1, tostring(#reply))
table.insert(reply, 1, redis.call('GET', KEYS[3]) or '')
table.insert(reply, 1, low + #entries >= n and '1' or '0')
table.insert(reply, 1, tostring(redis.call('PTTL', key)))
table.insert(reply, 1, redis.call('LINDEX', key, -1))
for _, entry in ipairs(entries) do
  reply[#reply + 1] = entry
end
return reply
