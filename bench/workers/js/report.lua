-- Prints what wrk saw as one line; asks for OBJECTS paths in turn if there are more than one.
local objects, i = tonumber(os.getenv("OBJECTS") or "1"), 0
if objects > 1 then
  request = function()
    i = (i + 1) % objects
    return wrk.format("GET", "/" .. i)
  end
end

done = function(summary, latency)
  local e = summary.errors
  io.write(string.format('RESULT {"requests":%d,"us":%d,"failed":%d,"p50":%f,"p99":%f}\n', summary.requests, summary.duration,
    e.connect + e.read + e.write + e.status + e.timeout, latency:percentile(50), latency:percentile(99)))
end
