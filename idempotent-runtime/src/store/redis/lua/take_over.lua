-- As claim.lua; but the attempt that is named becomes this token's if its lease has ended, and then the
-- answer is the record's age alone. Its fingerprint, its names and its progress stay.
--
-- ARGV: the record to be, for how long it lives, and its lease, in milliseconds, the attempt to take
-- over, anything if no waiter is to be told
local key = KEYS[1]
local record = redis.pcall('GET', key)
if not record then
  return redis.pcall('SET', key, ARGV[1], 'PX', ARGV[2])
end
if type(record) == 'table' then
  return record
end
local left = redis.call('PTTL', key)
local state = string.sub(record, 70, 70)
local is_running = string.byte(record) == 3 and #record >= 74
  and (state == 'r' or state == 'w' or state == 'a')
local new = ARGV[1]
if not is_running or left < 0 or string.sub(record, 2, 33) ~= string.sub(new, 2, 33)
  or (state ~= 'a' and string.sub(record, 34, 49) == string.sub(new, 34, 49)) then
  return { record, left }
end
local attempt, life, lease = struct.unpack('>I4dd', record, 50)
local length, start = struct.unpack('>I2I2', record, 71)
-- Zero, if another client has extended the key's life.
local age = math.max(life - left, 0)
-- That of a record whose owner has abandoned it has, whatever the clock says. False where a number is NaN.
local has_ended = (age >= lease or state == 'a') and lease >= 0 and lease <= life and life <= 9007199254740992
if attempt ~= tonumber(ARGV[4]) or not has_ended or start < 74 + length or start > #record then
  return { record, left }
end
-- The first two change nothing: a user may be allowed one of the commands and not the other, and a server over `maxmemory`
-- lets everything pass after a script's first write.
local taken = redis.pcall('SETRANGE', key, 0, string.sub(record, 1, 1))
if type(taken) ~= 'table' then
  taken = redis.pcall('PEXPIRE', key, math.max(left, 1))
end
if type(taken) == 'table' then
  return taken
end
redis.call('SETRANGE', key, 33, string.sub(new, 34, 49)
  .. struct.pack('>I4dd', attempt + 1, age + tonumber(ARGV[2]), age + tonumber(ARGV[3])) .. 'r')
redis.call('PEXPIRE', key, ARGV[2])
if state == 'w' and not ARGV[5] then
  redis.pcall('PUBLISH', string.sub(key, 1, -65) .. 'done', string.sub(key, -64))
end
return { age }
