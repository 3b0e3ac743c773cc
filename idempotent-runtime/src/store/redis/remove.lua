-- Removes whatever is there, readable or not.
--
-- ARGV: channel ('': none)
local removed = redis.call('DEL', KEYS[1])
if removed == 1 then
  changed(KEYS[1], ARGV[1])
end
return { 'removed', removed }
