-- Marks a running record as waited for, so that the script that ends its claim tells of it.
local record = redis.pcall('GETRANGE', KEYS[1], 0, 69)
if type(record) == 'table' then
  return record
end
local state = string.sub(record, 70, 70)
if string.byte(record) ~= 3 or (state ~= 'r' and state ~= 'w') then
  return { ok = 'ENDED' }
end
if state == 'r' then
  local marked = redis.pcall('SETRANGE', KEYS[1], 69, 'w')
  if type(marked) == 'table' then
    return marked
  end
end
return { ok = 'RUNNING' }
