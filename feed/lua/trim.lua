-- Cuts a home feed that has grown beyond its slack. One that is being built is
-- left alone: its marker, the last entry, must stay.
-- KEYS: the feed   ARGV: cap
local last = redis.call('LINDEX', KEYS[1], -1)
if last and string.sub(last, 1, 1) ~= 'B' then
  redis.call('LTRIM', KEYS[1], 0, ARGV[1] - 1)
end
return 1
