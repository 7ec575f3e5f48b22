-- Takes one push out of a person's hourly allowance (GCRA).
-- KEYS: the time at which the allowance is whole again, in ms
-- ARGV: now in ms, ms that one push costs, pushes that may be ahead
-- Returns 0, or how many ms to wait.
local now, cost, ahead = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local whole = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now)
local wait = whole - now - cost * (ahead - 1)
if wait > 0 then
  return math.ceil(wait)
end
redis.call('SET', KEYS[1], string.format('%.0f', whole + cost), 'PX', math.ceil(whole + cost - now))
return 0
