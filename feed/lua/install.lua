-- Ends the building of a feed: writes what was merged together with what landed
-- meanwhile, unless the feed was dropped since, or another builder took over.
-- KEYS: the feed, its marks, its edition
-- ARGV: marker, cap, milliseconds to live, number of authors whose posts are not
-- pushed, these authors ..., ids newest first (and the sentinel) ...
-- Returns 1, or 0 if the marker is not ours any more.
local key = KEYS[1]
if redis.call('LINDEX', key, -1) ~= ARGV[1] then
  return 0
end
local landed = redis.call('LRANGE', key, 0, -2)
table.sort(landed, function(a, b) return a > b end)
local cap, out, l, m, last = tonumber(ARGV[2]), {}, 1, 5 + ARGV[4], nil
while landed[l] or ARGV[m] do
  local id
  if landed[l] and (not ARGV[m] or landed[l] > ARGV[m]) then
    id, l = landed[l], l + 1
  else
    id, m = ARGV[m], m + 1
  end
  if id ~= last then
    -- Only the sentinel may stand beyond the cap; an id there takes it off.
    if #out >= cap and id ~= '0' then
      break
    end
    out[#out + 1], last = id, id
  end
end
redis.call('DEL', key)
for i = 1, #out, 1000 do
  redis.call('RPUSH', key, unpack(out, i, math.min(i + 999, #out)))
end
redis.call('PEXPIRE', key, ARGV[3])
redis.call('SET', KEYS[3], 'E' .. string.sub(ARGV[1], 2))
-- Those that were marked since the building began stay.
for i = 5, 4 + ARGV[4] do
  redis.call('SADD', KEYS[2], ARGV[i])
end
return 1
