-- Notes whose a device is, unless something newer is known; or forgets it.
-- KEYS: owner (19 digits of version, user)
-- ARGV: version, user ("" forgets), who has to own it to be forgotten
-- Returns who owned it before, also if nothing was written; and 1 if it was noted.
local known = redis.call('GET', KEYS[1]) or ''
local owner, noted = string.sub(known, 20), 0
if string.sub(known, 1, 19) <= ARGV[1] then
  if ARGV[2] ~= '' then
    redis.call('SET', KEYS[1], ARGV[1] .. ARGV[2])
    noted = 1
  elseif owner == ARGV[3] then
    redis.call('DEL', KEYS[1])
  end
end
return {owner, noted}
