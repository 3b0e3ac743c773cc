-- What the scripts begin with that write to a running claim: `head` has the head of its record and the
-- names after it, if these are of usual length, and `left` is how long the key lives yet. Not the whole
-- record, which may hold a long progress. Straight on, because a function would be made anew at each call.
local left = redis.call('PTTL', KEYS[1])
if left == -2 then
  return { ok = 'LOST' }
end
local head = redis.pcall('GETRANGE', KEYS[1], 0, 137)
if type(head) == 'table' then
  return head
end
local version, state = string.byte(head), string.sub(head, 70, 70)
if version and version ~= 3 and version > 0 and version < 32 then
  return { err = 'VERSION the record was written by another release' }
end
if version ~= 3 or #head < 74
  or (state ~= 'r' and state ~= 'w' and state ~= 'a' and state ~= 'c') then
  return { err = 'CORRUPT the value is no record' }
end

