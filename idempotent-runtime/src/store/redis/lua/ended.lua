-- Only for a claim whose lease has ended, and that its owner has not abandoned.
--
-- ARGV: attempt
local attempt, life, lease = struct.unpack('>I4dd', head, 50)
if (state ~= 'r' and state ~= 'w') or attempt ~= tonumber(ARGV[1])
  or math.max(life - left, 0) < lease then
  return { ok = 'LOST' }
end

