-- Sets or ends one edge of a relation, see edge.lua.
-- KEYS: live edges, ended edges (hashes by the other user)
-- ARGV: other user, id of the event, newest version that it may overrule,
--       "1" set | "0" end, milliseconds to remember an end, oldest end to remember
link(KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3], ARGV[4] == '1', ARGV[5], ARGV[6])
return 1
