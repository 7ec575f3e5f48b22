-- Writes a person's preferences, unless newer ones are known.
-- KEYS: what the owner set
-- ARGV: version, preferences, the kinds that are not put into the inbox, a byte each
-- Returns 1 if they were written, else 0.
if (redis.call('HGET', KEYS[1], 'preferred') or '') > ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[1], 'preferred', ARGV[1], 'preferences', ARGV[2], 'off', ARGV[3])
return 1
