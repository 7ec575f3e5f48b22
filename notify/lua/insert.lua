-- Adds a row to an inbox, see rows.lua.
-- KEYS: inbox, watchers, what the owner set, devices
-- ARGV: row, cap, milliseconds that the inbox lives on
return insert(KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1], tonumber(ARGV[2]), ARGV[3], nil)
