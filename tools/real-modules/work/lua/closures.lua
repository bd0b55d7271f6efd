local function counter(step)
    local n = 0
    return function() n = n + step return n end, function() return n end
end
local up, value = counter(3)
for i = 1, 10 do up() end
print("counter", value())

-- Each turn of a loop has a variable of its own.
local made = {}
for i = 1, 5 do made[i] = function(x) i = i + x return i end end
for i = 1, 5 do print(made[i](10), made[i](100)) end

local function compose(...)
    local all = { ... }
    return function(...)
        local result = table.pack(...)
        for _, f in ipairs(all) do result = table.pack(f(table.unpack(result, 1, result.n))) end
        return table.unpack(result, 1, result.n)
    end
end
print(compose(function(a, b) return b, a end, function(a, b) return a .. b end)("left", "right"))

local function fib(n) if n < 2 then return n end return fib(n - 1) + fib(n - 2) end
print("fib", fib(22))

-- A tail call takes no stack.
local function down(n) if n == 0 then return "bottom" end return down(n - 1) end
print(down(100000))
print(select("#", nil, nil), select(-1, 1, 2, 3), (select(2, "a", "b", "c")))

local Y = function(f) return (function(x) return x(x) end)(function(x) return f(function(...) return x(x)(...) end) end) end
print(Y(function(self) return function(n) return n <= 1 and 1 or n * self(n - 1) end end)(20))
