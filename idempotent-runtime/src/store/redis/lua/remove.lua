-- Removes whatever is there, readable or not.
--
-- ARGV: anything if no waiter is to be told
local removed = redis.call('DEL', KEYS[1])
if removed == 1 and not ARGV[1] then
  redis.pcall('PUBLISH', string.sub(KEYS[1], 1, -65) .. 'done', string.sub(KEYS[1], -64))
end
return removed
