-- Puts a row into its place in an inbox: a LIST of rows, newest id first, each id
-- once, at most `cap` of them. A row begins with the eight bytes of its id, a byte
-- of flags (1 read, 2 late, 4 seen) and a byte of kind; see row.go.
-- KEYS: the inbox, the marker of its watchers (also their channel), what the owner
--       set (HASH, see keys.go), the owner's devices
-- ARGV: row, cap, milliseconds that the inbox lives on, "" | id: the row is not
--       added if the inbox has one of this kind about the same user after that id
-- Returns 1 if the row was added, 0 if it was there or is older than a full inbox;
-- and 2 more if the owner has devices and the row is in the inbox now.
local inbox, row, cap = KEYS[1], ARGV[1], tonumber(ARGV[2])

-- The id of a row as two numbers of 32 bits: a double cannot hold all 64, and the
-- operator < of strings would follow the locale of the server.
local function id(r)
  local a, b, c, d, e, f, g, h = string.byte(r, 1, 8)
  return ((a * 256 + b) * 256 + c) * 256 + d, ((e * 256 + f) * 256 + g) * 256 + h
end

-- Compares an id (high, low) with a row's: above 0 if it is newer than the row's.
local function order(high, low, r)
  local h, l = id(r)
  if h ~= high then
    return high - h
  end
  return low - l
end

local high, low = id(row)

local set = redis.call('HMGET', KEYS[3], 'off', 'read', 'also', 'seen')
if set[1] and string.find(set[1], string.sub(row, 10, 10), 1, true) then
  return 0
end
-- What the log says was marked, where rows are being rebuilt.
local flags = 0
if set[2] and order(high, low, set[2]) <= 0 then
  flags = 5
elseif set[4] and order(high, low, set[4]) <= 0 then
  flags = 4
end
if set[3] and flags ~= 5 then
  for i = 1, #set[3], 8 do
    if string.sub(set[3], i, i + 7) == string.sub(row, 1, 8) then
      flags = 5
    end
  end
end
row = string.sub(row, 1, 8) .. string.char(flags) .. string.sub(row, 10)

local function devices()
  return redis.call('EXISTS', KEYS[4]) * 2
end

-- What a row without a post is about: kind and user.
local function subject(r)
  local from = math.floor(string.byte(r, 9) / 2) % 2 == 1 and 19 or 11
  return string.sub(r, 10, 10) .. string.sub(r, from)
end

local head = redis.call('LINDEX', inbox, 0)
local length
if not head or (ARGV[4] == '' and order(high, low, head) > 0) then
  length = redis.call('LPUSH', inbox, row)
else
  -- Rows from other partitions are a little out of order: the place is near the
  -- head. Only who must be told once is searched for in the whole inbox.
  local once, kind = ARGV[4] ~= '', string.byte(row, 10)
  local since_high, since_low
  if once then
    since_high, since_low = id(ARGV[4])
  end
  local first, step, place, older = 0, once and cap or 8, nil, nil
  while true do
    local rows = redis.call('LRANGE', inbox, first, first + step - 1)
    for i, other in ipairs(rows) do
      if not place then
        local d = order(high, low, other)
        if d == 0 then
          return devices()
        elseif d > 0 then
          place, older = first + i, other
        end
      end
      if once and string.byte(other, 10) == kind and subject(row) == subject(other) and order(since_high, since_low, other) < 0 then
        return 0
      end
    end
    first = first + #rows
    if #rows < step or (place and not once) then
      break
    end
    step = step * 4
  end
  place = place or first + 1
  if place > cap then
    return 0
  end
  if place == 1 then
    length = redis.call('LPUSH', inbox, row)
  else
    -- Late: newer rows came before it. It notes the newest of them, so that a
    -- client who has that one is still sent this one.
    row = string.sub(row, 1, 8) .. string.char(flags + 2) .. string.sub(row, 10, 10) .. string.sub(head, 1, 8) .. string.sub(row, 11)
    if older then
      length = redis.call('LINSERT', inbox, 'BEFORE', older, row)
    else
      length = redis.call('RPUSH', inbox, row)
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
return 1 + devices()
