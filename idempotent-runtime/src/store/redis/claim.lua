-- Becomes the one who runs, or learns who is or was. The order is that of `Store::claim`.
--
-- ARGV: fingerprint, token, lease and TTL in milliseconds, the attempt to take over (0: none),
-- channel ('': none)
local key = KEYS[1]
local fingerprint, token = ARGV[1], ARGV[2]
local lease, ttl, take_over = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local now = clock()
local lease_until = now + lease
local expires_at = now + math.max(lease, ttl)

local record, damage, is_left_over = read(key, now)
if damage then
  return damage
end

if not record then
  -- The new record must not inherit the old one's response. Not otherwise: the server checks
  -- `maxmemory` before a script's first write only, and a DEL would be one that it lets pass.
  if is_left_over then
    redis.call('DEL', key)
  end
  redis.call('HSET', key,
    'state', 'running', 'token', token, 'attempt', '1', 'fingerprint', fingerprint,
    'created_at', digits(now), 'lease_until', digits(lease_until), 'expires_at', digits(expires_at))
  redis.call('PEXPIREAT', key, digits(expires_at))
  return { 'acquired', 1, 0 }
end

if record.fingerprint ~= fingerprint then
  return { 'mismatch' }
end

if record.state == 'completed' then
  local response = redis.call('HGET', key, 'response')
  if not response then
    return corrupt('the response is missing')
  end
  return { 'completed', response }
end

local age = now - record.created_at
if record.token == token then
  return { 'acquired', record.attempt, age }
end

if now < record.lease_until then
  return { 'in flight', record.lease_until - now }
end

if take_over ~= record.attempt then
  return { 'abandoned', record.attempt, age }
end

redis.call('HSET', key,
  'token', token, 'attempt', digits(record.attempt + 1),
  'lease_until', digits(lease_until), 'expires_at', digits(expires_at))
redis.call('PEXPIREAT', key, digits(expires_at))
changed(key, ARGV[6])
return { 'acquired', record.attempt + 1, age }
