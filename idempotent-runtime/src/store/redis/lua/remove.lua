-- Removes what is there, readable or not. What does not begin as expected stays: it is the record of another attempt.
--
-- ARGV: how it begins, or nothing if that does not matter, anything if no waiter is to be told
local expected = ARGV[1]
if expected ~= '' then
  local found = redis.pcall('GETRANGE', KEYS[1], 0, #expected - 1)
  if found == '' then
    return 0
  end
  if found ~= expected then
    return -1
  end
end
local removed = redis.call('DEL', KEYS[1])
if removed == 1 and not ARGV[2] then
  redis.pcall('PUBLISH', string.sub(KEYS[1], 1, -65) .. 'done', string.sub(KEYS[1], -64))
end
return removed
