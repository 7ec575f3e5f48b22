-- Sets or ends one edge of a relation, unless a newer fact about it is known. A
-- live edge is "since", or "since,version" once it was confirmed: since is the
-- event that began it, version the last one about it, both 19 digits.
-- KEYS: live edges, ended edges (hashes by the other user)
-- ARGV: other user, id of the event, newest version that it may overrule,
--       "1" set | "0" end, milliseconds to remember an end, oldest end to remember
-- Returns 1 if this event began the edge that is there now, however often it
-- comes, else 0.
local other, id = ARGV[1], ARGV[2]
local live = redis.call('HGET', KEYS[1], other)
local since = live and string.sub(live, 1, 19)
local version = live and string.sub(live, -19) or redis.call('HGET', KEYS[2], other)
if not version or version <= ARGV[3] then
  if ARGV[4] == '1' then
    since = since or id
    redis.call('HSET', KEYS[1], other, since == id and id or since .. ',' .. id)
    redis.call('HDEL', KEYS[2], other)
  else
    since = nil
    redis.call('HDEL', KEYS[1], other)
    redis.call('HSET', KEYS[2], other, id)
    redis.call('PEXPIRE', KEYS[2], ARGV[5])
    -- A busy key never expires as a whole: each end looks at a few others and
    -- drops what is too old, as Redis does with its keys.
    local few = redis.call('HRANDFIELD', KEYS[2], 4, 'WITHVALUES')
    for i = 1, #few, 2 do
      if few[i + 1] < ARGV[6] then
        redis.call('HDEL', KEYS[2], few[i])
      end
    end
  end
end
return since == id and 1 or 0
