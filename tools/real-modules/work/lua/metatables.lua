local Vector = {}
Vector.__index = Vector
local function new(x, y) return setmetatable({ x = x, y = y }, Vector) end
Vector.__add = function(a, b) return new(a.x + b.x, a.y + b.y) end
Vector.__mul = function(a, b) if type(a) == "number" then return new(a * b.x, a * b.y) end return a.x * b.x + a.y * b.y end
Vector.__eq = function(a, b) return a.x == b.x and a.y == b.y end
Vector.__lt = function(a, b) return a.x < b.x end
Vector.__le = function(a, b) return a.x <= b.x end
Vector.__unm = function(a) return new(-a.x, -a.y) end
Vector.__len = function(a) return 2 end
Vector.__call = function(a, k) return a[k] end
Vector.__concat = function(a, b) return tostring(a) .. "|" .. tostring(b) end
Vector.__tostring = function(a) return ("(%g, %g)"):format(a.x, a.y) end
local a, b = new(1, 2), new(3, 4)
print(tostring(a + b), a * b, tostring(2 * a), a == new(1, 2), a < b, a <= a, tostring(-a), #a, a("y"), a .. b)

local Animal = {} Animal.__index = Animal
function Animal.new(name) return setmetatable({ name = name }, Animal) end
function Animal:speak() return self.name .. " is quiet" end
local Dog = setmetatable({}, { __index = Animal }) Dog.__index = Dog
function Dog.new(name) return setmetatable(Animal.new(name), Dog) end
function Dog:speak() return self.name .. " barks; " .. Animal.speak(self) end
print(Dog.new("Rex"):speak())

local log = {}
local proxy = setmetatable({}, {
    __index = function(_, k) log[#log + 1] = "get " .. tostring(k) return k end,
    __newindex = function(t, k, v) log[#log + 1] = "set " .. tostring(k) rawset(t, k, v) end,
    __pairs = function() return function(_, k) if not k then return 1, "one" elseif k < 4 then return k + 1, "more" end end, nil, nil end,
})
proxy.a = 1
print(proxy.a, proxy.b, rawget(proxy, "b"), rawlen({ 1, 2 }), rawequal(a, b))
for k, v in pairs(proxy) do print(k, v) end
print(table.concat(log, ", "), getmetatable("").__index == string)

local t = {}
for i = 1, 300 do t[i] = (i * 7919) % 1009 end
table.sort(t)
print(table.concat(t, " ", 1, 30))
table.sort(t, function(x, y) if x % 10 ~= y % 10 then return x % 10 < y % 10 end return x > y end)
print(table.concat(t, " ", 1, 30))
print(table.concat(table.move({ 1, 2, 3 }, 1, 3, 3), ","), table.unpack({ 1, 2, 3 }, 2), table.remove({ 9, 8 }, 1))
