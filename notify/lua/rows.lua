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

-- Finds the row before which an id belongs that is not newer than the head: the first
-- one that is not newer, nil if all are. Rows from other partitions are a little out
-- of order, so it looks near the head first; while a consumer catches up they are far
-- out of order, and a few looks must do.
local function place(inbox, high, low, head, length)
  if order(high, low, head) == 0 then
    return head
  end
  local from, to, at = 1, length, 8 -- the rows before `from` are newer, `to` is not
  while to - from > 8 do
    if order(high, low, redis.call('LINDEX', inbox, at)) >= 0 then
      to = at
    else
      from = at + 1
    end
    at = to < length and math.floor((from + to) / 2) or math.min(4 * at, length - 1)
  end
  for _, other in ipairs(redis.call('LRANGE', inbox, from, to)) do
    if order(high, low, other) >= 0 then
      return other
    end
  end
end

-- What a row without a post is about: kind and user.
local function subject(r)
  local from = math.floor(string.byte(r, 9) / 2) % 2 == 1 and 19 or 11
  return string.sub(r, 10, 10) .. string.sub(r, from)
end

-- Says whether an inbox tells, after an id, the same as a row in another row.
local function told_of(inbox, row, after)
  local mine, high, low = subject(row), id(after)
  for _, other in ipairs(redis.call('LRANGE', inbox, 0, -1)) do
    if string.sub(other, 10, 10) == string.sub(mine, 1, 1) and subject(other) == mine
      and order(high, low, other) < 0 and string.sub(other, 1, 8) ~= string.sub(row, 1, 8) then
      return true
    end
  end
  return false
end

-- Puts a row into its place in an inbox: a LIST of rows, newest id first, each id
-- once, at most `cap` of them. A row begins with the eight bytes of its id, a byte
-- of flags (1 read, 2 late, 4 seen) and a byte of kind; see row.go.
-- watched: the marker of its watchers (also their channel); person: what the owner
-- set (HASH, see keys.go); devices: the owner's; lives: milliseconds that the inbox
-- lives on; once: nil, or an id: the row is not added if the inbox has one of this
-- kind about the same user after that id
-- Returns 1 if the row was added, 0 if it was there or is older than a full inbox;
-- and 2 more if the owner has devices and the row is in the inbox now.
local function insert(inbox, watched, person, devices, row, cap, lives, once)
  local high, low = id(row)

  local set = redis.call('HMGET', person, 'off', 'read', 'also', 'seen')
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

  local head = redis.call('LINDEX', inbox, 0)
  if head and once and told_of(inbox, row, once) then
    return 0
  end
  local length
  if not head or order(high, low, head) > 0 then
    length = redis.call('LPUSH', inbox, row)
  else
    length = redis.call('LLEN', inbox)
    if length >= cap and order(high, low, redis.call('LINDEX', inbox, -1)) < 0 then
      return 0
    end
    local older = place(inbox, high, low, head, length)
    if older and order(high, low, older) == 0 then
      return redis.call('EXISTS', devices) * 2
    end
    -- Late: newer rows came before it. It notes the newest of them, so that a client
    -- who has that one is still sent this one.
    row = string.sub(row, 1, 8) .. string.char(flags + 2) .. string.sub(row, 10, 10) .. string.sub(head, 1, 8) .. string.sub(row, 11)
    if older then
      length = redis.call('LINSERT', inbox, 'BEFORE', older, row)
    else
      length = redis.call('RPUSH', inbox, row)
    end
  end
  if length > cap then
    redis.call('LTRIM', inbox, 0, cap - 1)
  end
  redis.call('PEXPIRE', inbox, lives)
  -- On a cluster every PUBLISH travels to every node: only where somebody watches.
  if redis.call('EXISTS', watched) == 1 then
    redis.call('PUBLISH', watched, '')
  end
  return 1 + redis.call('EXISTS', devices) * 2
end
