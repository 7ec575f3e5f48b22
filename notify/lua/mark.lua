-- Marks rows of an inbox: sets flags in the ninth byte (see row.go).
-- KEYS: the inbox, what the owner set, the owner's devices
-- ARGV: eight bytes of the newest id to mark ("" none), ids of eight bytes to mark
--       besides, flags ("5" read and seen | "4" seen), version of the fact that will
--       say so ("" none)
-- Returns how many rows had not all the flags, times two; and 1 more if the owner
-- has devices.
local function order(a, b)
  for i = 1, 8 do
    local d = string.byte(a, i) - string.byte(b, i)
    if d ~= 0 then
      return d
    end
  end
  return 0
end

local also = {}
for i = 1, #ARGV[2], 8 do
  also[string.sub(ARGV[2], i, i + 7)] = true
end
-- When the fact comes back out of the log it is no news.
if ARGV[4] ~= '' and (redis.call('HGET', KEYS[2], 'marked') or '') < ARGV[4] then
  redis.call('HSET', KEYS[2], 'marked', ARGV[4])
end
local marked = 0
for i, row in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
  local flags = string.byte(row, 9)
  local read, seen = flags % 2, math.floor(flags / 4) % 2
  if also[string.sub(row, 1, 8)] or (ARGV[1] ~= '' and order(row, ARGV[1]) <= 0) then
    local new = flags + (1 - seen) * 4
    if ARGV[3] == '5' then
      new = new + 1 - read
    end
    if new ~= flags then
      redis.call('LSET', KEYS[1], i - 1, string.sub(row, 1, 8) .. string.char(new) .. string.sub(row, 10))
      marked = marked + 1
    end
  end
end
return marked * 2 + redis.call('EXISTS', KEYS[3])
