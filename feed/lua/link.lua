-- Sets or ends one edge of a relation, unless a newer fact about it is known.
-- KEYS: live edges, ended edges (hashes: other user -> version, an event id); the
--       edition of the user's feed, or none for followers, who have a generation
-- ARGV: other user, version, newest version that may be overruled, "1" set | "0" end,
--       milliseconds to remember an end, a new name for the edition or generation
-- Returns 1 if the fact was taken, 0 if it is stale.
local live = redis.call('HGET', KEYS[1], ARGV[1])
local gone = redis.call('HGET', KEYS[2], ARGV[1])
local version, known = ARGV[2], live or gone
if known and known > ARGV[3] then
  return 0
end
if known and known > version then
  version = known
end
if ARGV[4] == '1' then
  redis.call('HSET', KEYS[1], ARGV[1], version)
  if gone then
    redis.call('HDEL', KEYS[2], ARGV[1])
  end
else
  if live then
    redis.call('HDEL', KEYS[1], ARGV[1])
  end
  redis.call('HSET', KEYS[2], ARGV[1], version)
  redis.call('PEXPIRE', KEYS[2], ARGV[5])
end
if (live ~= false) == (ARGV[4] == '1') then
  return 1
end
if KEYS[3] then
  -- Whether the feed is being built, the first letter, stays.
  local edition = redis.call('GET', KEYS[3])
  if edition then
    redis.call('SET', KEYS[3], string.sub(edition, 1, 1) .. ARGV[6])
  end
else
  -- The state of a large author (large.go) stays.
  local state = string.match(redis.call('HGET', KEYS[1], '#') or '', '^[?!]') or ''
  redis.call('HSET', KEYS[1], '#', state .. ARGV[6])
end
return 1
