-- Many numbers, in all the ways they are printed.
local x = 12345
local function random() x = (x * 1103515245 + 12345) % 2147483648 return x / 2147483648 end
for i = 1, 400 do
    local a, b = (random() - 0.5) * 10 ^ (i % 40 - 20), math.floor(random() * 1000) + 1
    print(i, a, b, a * b, a / b, a % b, a // b, a ^ 0.5 == a ^ 0.5, math.floor(a), ("%.17g"):format(a))
end
for _, f in ipairs { "sin", "cos", "tan", "exp", "sqrt", "abs", "ceil", "floor" } do
    for i = -3, 3 do print(f, i, ("%.12g"):format(math[f](i * 0.7))) end
end
print(math.maxinteger, math.mininteger, math.maxinteger + 1 == math.mininteger, math.maxinteger // -1, math.mininteger // -1)
print(7 // 2, -7 // 2, 7 // -2, 7 % -3, -7 % 3, 7.5 // 2, -7.5 % 2, 1 / 0, -1 / 0, 0 / 0 ~= 0 / 0)
print(3 & 5, 3 | 5, 3 ~ 5, ~0, 1 << 63, 1 << 64, -1 >> 60, "7" + 0, 0x7fffffffffffffff, 1e308 * 10)
print(math.type(1), math.type(1.0), math.type("1"), math.tointeger(3.0), math.ult(1, -1), 2 ^ 53 == 2 ^ 53 + 1)
for i = 0, 64 do print(1 << i, 2.0 ^ i, ("%x"):format(1 << i)) end
for _, s in ipairs { "1", "1.0", "0x.8p1", "1e-320", "9223372036854775807", "9223372036854775808", "0xffffffffffffffffff", "inf", "nan" } do print(s, tonumber(s)) end
local sum, product = 0, 1
for i = 1, 100000 do sum = sum + i * i % 7 product = product * i % 1000003 end
print(sum, product)
