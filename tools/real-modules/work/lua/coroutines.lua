local function generate(n) return coroutine.wrap(function() for i = 1, n do coroutine.yield(i, i * i) end return "end" end) end
local next_pair = generate(5)
for i = 1, 6 do print(next_pair()) end
print(pcall(next_pair))

local sieve = coroutine.wrap(function()
    local function numbers() for i = 2, math.huge do coroutine.yield(i) end end
    local function filter(p, g) for n in g do if n % p ~= 0 then coroutine.yield(n) end end end
    local g = coroutine.wrap(numbers)
    while true do
        local p = g()
        coroutine.yield(p)
        local before = g
        g = coroutine.wrap(function() filter(p, before) end)
    end
end)
local primes = {}
for i = 1, 40 do primes[i] = sieve() end
print(table.concat(primes, " "))

-- Errors in coroutines, errors that cross a yield, closing.
local co = coroutine.create(function(a)
    local ok, message = pcall(function() local b = coroutine.yield(a + 1) error({ code = b }) end)
    print(ok, type(message), message.code)
    coroutine.yield("after")
    error("the last", 0)
end)
print(coroutine.resume(co, 1))
print(coroutine.resume(co, 77))
print(coroutine.status(co), coroutine.resume(co))
print(coroutine.status(co), coroutine.resume(co))

local closed = coroutine.create(function() local x <close> = setmetatable({}, { __close = function() print("closed") end }) coroutine.yield() end)
coroutine.resume(closed)
print(coroutine.close(closed), coroutine.status(closed))

local log, tasks = {}, {}
for id = 1, 20 do
    tasks[id] = coroutine.create(function() for turn = 1, id do log[#log + 1] = id * turn coroutine.yield() end end)
end
while #tasks > 0 do
    for i = #tasks, 1, -1 do
        coroutine.resume(tasks[i])
        if coroutine.status(tasks[i]) == "dead" then table.remove(tasks, i) end
    end
end
print(#log, table.concat(log, ","))
print(coroutine.isyieldable(), select(2, coroutine.running()))
