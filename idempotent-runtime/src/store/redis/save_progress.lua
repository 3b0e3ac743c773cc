-- Keeps how far a running claim has got, also after its lease. What is kept only grows: bytes that
-- are not longer are an earlier call that was late.
--
-- ARGV: token, progress
if state == 'c' then
  return { ok = 'LOST' }
end
if #ARGV[2] > #record - 70 then
  local saved = redis.pcall('SETRANGE', KEYS[1], 70, ARGV[2])
  if type(saved) == 'table' then
    return saved
  end
end
return { ok = 'OK' }
