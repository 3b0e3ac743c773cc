-- Only for the owner of a claim.
--
-- ARGV: token
if state == 'a' or string.sub(head, 34, 49) ~= ARGV[1] then
  return { ok = 'LOST' }
end

