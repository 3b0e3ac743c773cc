-- What every script begins with: the server's clock, and how a record is read.
--
-- A record is one hash, and all its keys are one key, so that the scripts run in a Cluster. Its times
-- are the server's, in milliseconds since 1970, as decimal digits. The key's own TTL only frees the
-- memory: whether a record has expired is decided by its `expires_at`.

-- Reading the clock before a write needs effects replication: the only way there is from Redis 7,
-- the default from Redis 5.
local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Without the exponent that Lua would print, and no more than a double holds exactly.
local function digits(number)
  return string.format('%.0f', number)
end

local function number(text)
  if text and #text <= 16 and string.find(text, '^%d+$') then
    return tonumber(text)
  end
end

local function corrupt(what)
  return { 'corrupt', what }
end

-- Returns the record, or nil when there is none or it has expired; then what the script must answer
-- instead of going on when there is something that cannot be read; then whether there is an expired
-- record that the server has not removed.
local function read(key, now)
  local fields = redis.pcall('HMGET', key,
    'state', 'token', 'attempt', 'fingerprint', 'created_at', 'lease_until', 'expires_at')
  if fields.err then
    if redis.call('TYPE', key).ok ~= 'hash' then
      return nil, corrupt('the value is not a hash')
    end
    return nil, fields
  end
  if not fields[1] then
    if redis.call('EXISTS', key) == 0 then
      return nil
    end
    return nil, corrupt('the hash has no state')
  end
  local record = {
    state = fields[1],
    token = fields[2],
    attempt = number(fields[3]),
    fingerprint = fields[4],
    created_at = number(fields[5]),
    lease_until = number(fields[6]),
    expires_at = number(fields[7]),
  }
  if record.state ~= 'running' and record.state ~= 'completed' then
    return nil, corrupt('the state is unknown')
  end
  if not record.token or #record.token ~= 16 then
    return nil, corrupt('the token is not 16 bytes')
  end
  if not record.fingerprint or #record.fingerprint ~= 32 then
    return nil, corrupt('the fingerprint is not 32 bytes')
  end
  if not (record.attempt and record.created_at and record.lease_until and record.expires_at) then
    return nil, corrupt('a number is missing or is none')
  end
  if now >= record.expires_at then
    return nil, nil, true
  end
  return record
end

-- Tells those who wait for this record that it has changed. It is a hint: a server that forbids
-- publishing must not fail what was written before.
local function changed(key, channel)
  if channel ~= '' then
    redis.pcall('PUBLISH', channel, string.sub(key, -64))
  end
end

