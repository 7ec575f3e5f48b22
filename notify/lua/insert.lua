-- Puts a row into its place in an inbox: a LIST of rows, newest id first, each id
-- once, at most `cap` of them. A row begins with the eight bytes of its id, a byte
-- of flags (1 read, 2 late) and a byte of kind; see row.go.
-- KEYS: the inbox, the marker of its watchers (also their channel)
-- ARGV: row, cap, milliseconds that the inbox lives on, "" | id: the row is not
--       added if the inbox has one of this kind about the same user after that id
-- Returns 1 if the row was added, 0 if it was there or is older than a full inbox.
local inbox, row, cap = KEYS[1], ARGV[1], tonumber(ARGV[2])

-- The order of two ids. The operator < would follow the locale of the server.
local function order(a, b)
  for i = 1, 8 do
    local d = string.byte(a, i) - string.byte(b, i)
    if d ~= 0 then
      return d
    end
  end
  return 0
end

-- What a row without a post is about: kind and user.
local function subject(r)
  local from = string.byte(r, 9) >= 2 and 19 or 11
  return string.sub(r, 10, 10) .. string.sub(r, from)
end

local head = redis.call('LINDEX', inbox, 0)
local length
if not head or (ARGV[4] == '' and order(row, head) > 0) then
  length = redis.call('LPUSH', inbox, row)
else
  local rows = redis.call('LRANGE', inbox, 0, -1)
  local place = #rows + 1
  for i, other in ipairs(rows) do
    local d = order(row, other)
    if d == 0 or (ARGV[4] ~= '' and order(other, ARGV[4]) > 0 and subject(row) == subject(other)) then
      return 0
    end
    if d > 0 and i < place then
      place = i
    end
  end
  if place > cap then
    return 0
  end
  if place == 1 then
    length = redis.call('LPUSH', inbox, row)
  else
    -- Late: newer rows came before it. It notes the newest of them, so that a
    -- client who has that one is still sent this one.
    row = string.sub(row, 1, 8) .. '\2' .. string.sub(row, 10, 10) .. string.sub(head, 1, 8) .. string.sub(row, 11)
    if place > #rows then
      length = redis.call('RPUSH', inbox, row)
    else
      length = redis.call('LINSERT', inbox, 'BEFORE', rows[place], row)
    end
  end
end
if length > cap then
  redis.call('LTRIM', inbox, 0, cap - 1)
end
redis.call('PEXPIRE', inbox, ARGV[3])
-- On a cluster every PUBLISH travels to every node: only where somebody watches.
if redis.call('EXISTS', KEYS[2]) == 1 then
  redis.call('PUBLISH', KEYS[2], '')
end
return 1
