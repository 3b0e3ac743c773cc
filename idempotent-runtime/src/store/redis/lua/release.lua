-- Removes the record of a running claim, also after its lease: the key is free.
--
-- ARGV: token, anything if no waiter is to be told
if state == 'c' then
  return { ok = 'LOST' }
end
redis.call('DEL', KEYS[1])
if state == 'w' and not ARGV[2] then
  redis.pcall('PUBLISH', string.sub(KEYS[1], 1, -65) .. 'done', string.sub(KEYS[1], -64))
end
return { ok = 'OK' }
