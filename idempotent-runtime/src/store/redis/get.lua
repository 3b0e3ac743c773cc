-- Reads a record and changes nothing. The times are told as they are to the server's clock, so that
-- the caller's does not matter.
local key = KEYS[1]
local now = clock()
local record, damage = read(key, now)
if damage then
  return damage
end
if not record then
  return { 'absent' }
end
local about = {
  record.state, record.fingerprint, record.attempt,
  now - record.created_at, record.expires_at - now,
}
if record.state == 'running' then
  about[6] = record.lease_until - now
else
  local response = redis.call('HGET', key, 'response')
  if not response then
    return corrupt('the response is missing')
  end
  about[6] = response
end
about[7] = redis.call('HGET', key, 'progress') or ''
return about
