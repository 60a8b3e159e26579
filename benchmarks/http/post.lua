-- Posts JPEGs that differ in a comment only, or always the same one.
-- Arguments: path of the JPEG, path of the address, "distinct" or "same", a number that no other run has.
local thread_count = 0

function setup(thread)
    thread:set("thread_number", thread_count)
    thread_count = thread_count + 1
end

function init(args)
    local file = assert(io.open(args[1], "rb"))
    jpeg = file:read("*a")
    file:close()
    path = args[2]
    distinct = args[3] == "distinct"
    run = tonumber(args[4])
    count = 0
    headers = {["Content-Type"] = "image/jpeg"}
    if not distinct then
        same = wrk.format("POST", path, headers, jpeg)
    end
end

function request()
    if same then
        return same
    end
    count = count + 1
    local comment = string.format("%08d%04d%08d", run, thread_number, count)
    local body = jpeg:sub(1, 2) .. "\255\254\0\22" .. comment .. jpeg:sub(3)
    return wrk.format("POST", path, headers, body)
end

function done(summary, latency, requests)
    local failed = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status
        + summary.errors.timeout
    io.write(string.format('{"requests": %d, "failed": %d, "seconds": %.6f, "p50_ms": %.3f, "p95_ms": %.3f, "p99_ms": %.3f}\n',
        summary.requests, failed, summary.duration / 1e6,
        latency:percentile(50) / 1e3, latency:percentile(95) / 1e3, latency:percentile(99) / 1e3))
end
