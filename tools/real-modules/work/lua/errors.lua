-- Each error leaves by longjmp.
print(pcall(error, "plain", 0))
print(pcall(error))
print(pcall(function() local x = nil; return x.field end))
print(pcall(function() return 1 + {} end))
print(pcall(function() return #5 end))
print(pcall(function() return 1 // 0 end))
print(pcall(function() return {} < {} end))
print(pcall(function() return ("x"):bad() end))
print(pcall(string.rep, "x", -1), pcall(string.rep), pcall(string.format, "%d", 1.5))
print(pcall(refuse))
print(select(2, xpcall(refuse, function(m) return "handled: " .. m end)))
print(xpcall(function() error({ 1, 2, 3 }) end, function(e) return #e end))
print(pcall(function() error(setmetatable({}, { __tostring = function() return "an object" end })) end))

local depth = 0
local function recurse() depth = depth + 1 return 1 + recurse() end
local ok, message = pcall(recurse)
print(ok, message:match("stack overflow"), depth > 1000)
print(pcall(string.rep, "x", 1 << 40))

-- Nested, thousands of times.
local function nest(n) if n == 0 then error("deep") end local ok, e = pcall(nest, n - 1) error(e, 0) end
print(pcall(nest, 100))
local caught = 0
for i = 1, 5000 do
    local ok, e = pcall(function() if i % 3 == 0 then error(i) elseif i % 3 == 1 then local _ = nil .. "x" else return i end end)
    if not ok then caught = caught + 1 end
end
print(caught)
print(load("return +"))
print(load("x = = 1"))
print(load("goto nowhere"))
print(pcall(load("local a <const> = 1; return a")))
print(pcall(error, "level", 2))
do
    local order = {}
    local function scope(n) return setmetatable({}, { __close = function(_, e) order[#order + 1] = n .. ":" .. tostring(e) end }) end
    pcall(function() local a <close> = scope("a") local b <close> = scope("b") error("thrown", 0) end)
    print(table.concat(order, " "))
end
