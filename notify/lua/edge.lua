-- Sets or ends one edge of a relation, unless a newer fact about it is known. A
-- live edge is "since", or "since,version" once it was confirmed: since is the
-- event that began it, version the last one about it, both 19 digits. The comma is
-- a semicolon if the edge was there before, ended and began again.
-- live, ended: the keys of the two hashes by the other user; overrules: the newest
-- version that the event may overrule; remember: milliseconds to remember an end;
-- forget: oldest end to remember
-- Returns the event that began the edge that is there now (nil if none), whether
-- the fact counts, and whether the edge began again.
local function link(live, ended, other, id, overrules, set, remember, forget)
  local known = redis.call('HGET', live, other)
  local stopped = not known and redis.call('HGET', ended, other)
  local since = known and string.sub(known, 1, 19)
  local version = known and string.sub(known, -19) or stopped
  local again = stopped or (known and string.sub(known, 20, 20) == ';')
  if version and version > overrules then
    return since, false, again
  end
  if set then
    since = since or id
    local value = since
    if again then
      value = since .. ';' .. id
    elseif since ~= id then
      value = since .. ',' .. id
    end
    redis.call('HSET', live, other, value)
    if stopped then
      redis.call('HDEL', ended, other)
    end
    return since, true, again
  end
  if known then
    redis.call('HDEL', live, other)
  end
  redis.call('HSET', ended, other, id)
  redis.call('PEXPIRE', ended, remember)
  -- A busy key never expires as a whole: each end looks at a few others and drops
  -- what is too old, as Redis does with its keys.
  local few = redis.call('HRANDFIELD', ended, 4, 'WITHVALUES')
  for i = 1, #few, 2 do
    if few[i + 1] < forget then
      redis.call('HDEL', ended, few[i])
    end
  end
  return nil, true, again
end
