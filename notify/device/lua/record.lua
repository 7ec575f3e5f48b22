-- Notes what came of a push to a device that is still registered.
-- KEYS: devices, outcomes   ARGV: device, outcome, "+" a strike | "0" none any more | "" as before
-- Returns how many strikes there are. A stored outcome begins with a digit for them.
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then
  return 0
end
local strikes = tonumber(string.sub(redis.call('HGET', KEYS[2], ARGV[1]) or '0', 1, 1))
if ARGV[3] == '+' then
  strikes = math.min(strikes + 1, 9)
elseif ARGV[3] == '0' then
  strikes = 0
end
redis.call('HSET', KEYS[2], ARGV[1], strikes .. ARGV[2])
return strikes
