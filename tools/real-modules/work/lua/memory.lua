collectgarbage("generational")
local weak = setmetatable({}, { __mode = "k" })
local finalised = 0
for round = 1, 20 do
    for i = 1, 500 do
        local object = setmetatable({ i, {}, tostring(i) }, { __gc = function(o) finalised = finalised + o[1] end })
        weak[object] = { object }
    end
end
collectgarbage() collectgarbage()
print("finalised", finalised, next(weak))
collectgarbage("incremental")
local keep = {}
for i = 1, 200000 do keep[i % 1000] = { i, i .. "" } end
collectgarbage()
local sum = 0
for _, v in pairs(keep) do sum = sum + v[1] end
print("sum", sum)
print(collectgarbage("count") > 10, collectgarbage("isrunning"), collectgarbage("step"))
local strings = setmetatable({}, { __mode = "v" })
for i = 1, 1000 do strings[i] = {} end
collectgarbage()
local left = 0
for _ in pairs(strings) do left = left + 1 end
print("left", left)
