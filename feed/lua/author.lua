-- Puts a post into its author's list, in sorted place and once, and tells who
-- has to hear of it.
-- KEYS: author list, followers   ARGV: post id
-- Returns {number of followers, generation of the followers}.
local key, id = KEYS[1], ARGV[1]
local head = redis.call('LINDEX', key, 0)
if not head or id > head then
  redis.call('LPUSH', key, id)
elseif id ~= head then
  -- Bisect for the first entry that is not newer.
  local n = redis.call('LLEN', key)
  local low, high, at = 1, n, nil
  while low < high do
    local middle = math.floor((low + high) / 2)
    local entry = redis.call('LINDEX', key, middle)
    if entry > id then
      low = middle + 1
    else
      high, at = middle, entry
    end
  end
  if not at then
    redis.call('RPUSH', key, id)
  elseif at ~= id then
    redis.call('LINSERT', key, 'BEFORE', at, id)
  end
end
local generation = redis.call('HGET', KEYS[2], '#')
if not generation then
  return {0, ''}
end
return {redis.call('HLEN', KEYS[2]) - 1, generation}
