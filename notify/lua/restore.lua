-- Takes over what the log says was marked, unless it is known: after Redis was lost.
-- Rows that come later, out of the same log, are marked by rows.lua.
-- KEYS: the inbox, what the owner set
-- ARGV: version, eight bytes of the newest id read ("" none), ids read besides, eight
--       bytes of the newest id seen ("" none), "1" also if just this is known
-- Returns 1 if it was news, else 0.
local known = redis.call('HGET', KEYS[2], 'marked') or ''
if known > ARGV[1] or (known == ARGV[1] and ARGV[5] ~= '1') then
  return 0
end
redis.call('HSET', KEYS[2], 'marked', ARGV[1])
for i, field in ipairs({'read', 'also', 'seen'}) do
  if ARGV[i + 1] == '' then
    redis.call('HDEL', KEYS[2], field)
  else
    redis.call('HSET', KEYS[2], field, ARGV[i + 1])
  end
end

local function reaches(limit, row)
  for i = 1, 8 do
    local d = string.byte(row, i) - string.byte(limit, i)
    if d ~= 0 then
      return d < 0
    end
  end
  return true
end

local also = {}
for i = 1, #ARGV[3], 8 do
  also[string.sub(ARGV[3], i, i + 7)] = true
end
for i, row in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
  local flags = string.byte(row, 9)
  local read, seen = flags % 2, math.floor(flags / 4) % 2
  local new = flags
  if also[string.sub(row, 1, 8)] or (ARGV[2] ~= '' and reaches(ARGV[2], row)) then
    new = flags + 1 - read + (1 - seen) * 4
  elseif ARGV[4] ~= '' and reaches(ARGV[4], row) then
    new = flags + (1 - seen) * 4
  end
  if new ~= flags then
    redis.call('LSET', KEYS[1], i - 1, string.sub(row, 1, 8) .. string.char(new) .. string.sub(row, 10))
  end
end
return 1
