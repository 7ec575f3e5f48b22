-- Marks rows of an inbox as read: sets the flag in the ninth byte (see row.go).
-- KEYS: the inbox   ARGV: eight bytes of an id, "1" also all older rows | "0" that row
-- Returns how many rows were unread before.
local function order(a, b)
  for i = 1, 8 do
    local d = string.byte(a, i) - string.byte(b, i)
    if d ~= 0 then
      return d
    end
  end
  return 0
end

local marked = 0
for i, row in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
  local d, flags = order(row, ARGV[1]), string.byte(row, 9)
  if flags % 2 == 0 and (d == 0 or (d < 0 and ARGV[2] == '1')) then
    redis.call('LSET', KEYS[1], i - 1, string.sub(row, 1, 8) .. string.char(flags + 1) .. string.sub(row, 10))
    marked = marked + 1
  end
end
return marked
