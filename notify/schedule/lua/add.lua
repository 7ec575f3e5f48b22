-- Adds a job, or joins an item to the one that is there.
-- KEYS: due (ZSET id -> ms), body (HASH id -> items)
-- ARGV: id, due in ms, item, "1" join | "0" leave what is there, bytes of a body at most
-- Returns 1 if the job is new, else 0.
local id = ARGV[1]
if redis.call('ZADD', KEYS[1], 'NX', ARGV[2], id) == 1 then
  redis.call('HSET', KEYS[2], id, ARGV[3])
  return 1
end
if ARGV[4] == '1' then
  local body = redis.call('HGET', KEYS[2], id) or ''
  if #body + #ARGV[3] <= tonumber(ARGV[5]) then
    redis.call('HSET', KEYS[2], id, body .. ARGV[3])
  end
end
return 0
