local text = [[The quick brown fox jumps over the lazy dog; 0x1F 3.25e2 -17 "quoted" (nested (parens)) user@example.org]]
print(#text, text:upper(), text:lower(), text:reverse())
for word in text:gmatch("%a+") do print(word, word:byte(1, -1)) end
print(text:find("(%w+)@(%w+)%.(%w+)"), text:match("%b()"), text:gsub("%d+", function(d) return "<" .. d .. ">" end))
print(text:gsub("(%w+) (%w+)", "%2 %1", 3), ("x"):rep(7, "-"), text:find("fox", 1, true))
print(("%q"):format("a\n\0b\"c\\"), ("%5.2f|%-8s|%+d|%x|%g|%c|%a"):format(3.14159, "left", 42, 255, 1e20, 65, 1.5))
for _, f in ipairs { "%10.4f", "%e", "%G", "%.3s", "%i", "%o", "%X" } do
    print(f, f:find("s") and f:format("abcdef") or f:format(f:find("[ioX]") and 123456 or 123456.789))
end
local packed = string.pack("<i4 >i2 z s1 d", -5, 300, "zero", "one", 1.25)
print(#packed, string.unpack("<i4 >i2 z s1 d", packed))
print(packed:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
for p, c in utf8.codes("aé漢😀") do print(p, c, utf8.char(c)) end
print(utf8.len("aé漢😀"), utf8.codepoint("é漢", 1, -1), utf8.offset("aé漢", 3), utf8.len("\xff"))
local parts = {}
for i = 1, 2000 do parts[i] = ("%d:%s"):format(i, ("ab"):rep(i % 5)) end
local joined = table.concat(parts, ";")
print(#joined, select(2, joined:gsub("ab", "")), joined:sub(-20))
print(("a,b,,c"):find(",", 1, true), ("  trim  "):match("^%s*(.-)%s*$"), ("k=v; x=y"):gsub("(%w)=(%w)", { k = "K" }))
print("10" + 5, "0x10" * 2, 10 .. 20, "abc" < "abd", "Z" < "a", "" < "a")
print(tostring(nil), tostring(true), tonumber("z", 36), tonumber("1e1"), tonumber("  0x1p4  "), tonumber("8", 8), tonumber("1 2"))
