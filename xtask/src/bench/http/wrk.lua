-- The requests that wrk sends. Arguments: mode, key prefix (8 characters), file with the body, `session`
-- if each key is to have a session of its own, how many keys are replayed in the mode `replays`.

function init(args)
   local mode, prefix, session = args[1], args[2], args[4] == "session"
   local file = assert(io.open(args[3], "rb"))
   wrk.method = "POST"
   wrk.body = file:read("*a")
   file:close()
   wrk.headers["Content-Type"] = "application/json"

   -- Replays of more than one key go through so many, in turn.
   local keys = mode == "replays" and tonumber(args[5])

   local function key(number) return string.format("%s-0000-4000-8000-%012d", prefix, number) end
   -- 22 characters of base64url, of which the last may be no other.
   local function cookie(number) return string.format("session=%s-%012dA", prefix, number) end

   if mode == "keyless" then
      if session then wrk.headers["Cookie"] = cookie(0) end
   elseif mode == "replay" then
      wrk.headers["Idempotency-Key"] = key(0)
      if session then wrk.headers["Cookie"] = cookie(0) end
   else
      -- Taken apart once, so that a request costs little more than its key.
      wrk.headers["Idempotency-Key"] = "@key@"
      if session then wrk.headers["Cookie"] = "@cookie@" end
      local format, number = wrk.format(), 0
      local parts = {}
      for part, mark in string.gmatch(format .. "@end@", "(.-)(@%a+@)") do
         parts[#parts + 1] = part
         parts[#parts + 1] = mark
      end
      local places = {}
      for at, part in ipairs(parts) do places[part] = at end
      parts[places["@end@"]] = ""
      function request()
         number = number + 1
         if keys then number = number % keys end
         parts[places["@key@"]] = key(number)
         if session then parts[places["@cookie@"]] = cookie(number) end
         return table.concat(parts)
      end
   end
end

function done(summary, latency, requests)
   local errors = summary.errors
   local failed = errors.connect + errors.read + errors.write + errors.timeout
   io.write(string.format("RESULT %d %d %d %d %.1f %.1f\n", summary.requests, summary.duration,
      errors.status, failed, latency:percentile(50), latency:percentile(99)))
end
