-- Notes that somebody follows a user, or not any more, and tells the user of who is
-- new. See edge.lua and rows.lua, which stand above this.
-- KEYS: followers, those who ended, subscribers, blocks, blockedby and mutes of the
--       followee; inbox, watchers, what the owner set, devices
-- ARGV: follower, id of the event, newest version that it may overrule,
--       "all" every post | "none" | "" ends, milliseconds to remember an end, oldest
--       end to remember, row ("" nobody is told), cap, milliseconds that the inbox
--       lives on, id: the row of an earlier follow is older than that
-- Returns what insert says, and 4 if the row was left out because of a block or mute.
local follower, set = ARGV[1], ARGV[4] ~= ''
local since, counts, again = link(KEYS[1], KEYS[2], follower, ARGV[2], ARGV[3], set, ARGV[5], ARGV[6])
if counts then
  -- The edge has the versions, so the level needs none of its own.
  if ARGV[4] == 'all' then
    redis.call('HSETNX', KEYS[3], follower, ARGV[2])
  else
    redis.call('HDEL', KEYS[3], follower)
  end
end
-- Who comes again, in a message or out of poison, is told of again if the follow is
-- still the one that this event began.
if ARGV[7] == '' or since ~= ARGV[2] then
  return 0
end
if redis.call('EXISTS', KEYS[4], KEYS[5], KEYS[6]) > 0 then
  for i = 4, 6 do
    if redis.call('HEXISTS', KEYS[i], follower) == 1 then
      return 4
    end
  end
end
return insert(KEYS[7], KEYS[8], KEYS[9], KEYS[10], ARGV[7], tonumber(ARGV[8]), ARGV[9], again and ARGV[10])
