-- Puts a post into its author's list, in sorted place and once.
-- KEYS: author list   ARGV: post id
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
return 1
