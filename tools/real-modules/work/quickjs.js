"use strict";
class Shape { #name; constructor(n) { this.#name = n } get name() { return this.#name } area() { return 0 } static of(...a) { return new this(...a) } }
class Circle extends Shape { constructor(r) { super("circle"); this.r = r } area() { return Math.PI * this.r ** 2 } toString() { return `${this.name}:${this.area().toFixed(4)}` } }
for (let i = 1; i < 40; i++) print(Circle.of(i), i / 7, (i * 1e21).toString(), (i / 3).toPrecision(9), i.toString(3));
function* fib() { let [a, b] = [0n, 1n]; for (;;) { yield a;[a, b] = [b, a + b] } }
let n = 0; for (const f of fib()) { if (n++ > 150) break; print(f, f % 1000007n, f << 3n) }
print(JSON.stringify({ a: [1, , undefined, null], b: { c: "\u00e9\n" }, d: new Date(0), e: NaN }, null, 2));
print(JSON.parse('{"x":[1,2,{"y":"z"}]}', (k, v) => typeof v === "number" ? v * 2 : v).x.join());
for (const re of [/(\d+)-(\w+)/g, /(?<year>\d{4})/u, /^\s*(.*?)\s*$/m, /\p{Lu}/gu, /(?<=a)b+(?!c)/]) print(re, "12-ab 2024 Aabbb bbc ÀÉ".replace(re, m => `<${m}>`), re.exec("x 12-ab 2024 abbd")?.index);
const m = new Map([["a", 1], [{}, 2]]), s = new Set("hello"), w = new WeakMap(); w.set(m, s);
print([...m.values()], [...s].join(""), w.has(m), Object.entries({ z: 1, y: 2 }));
const errors = [() => null.x, () => undefinedName, () => refuse(1, 2), () => { throw new RangeError("mine", { cause: 1 }) }, () => JSON.parse("{"), () => new Array(-1), () => 1n + 1, () => eval("a b"), () => { const c = 1; c = 2 }, () => Symbol() + ""];
for (const f of errors) try { f(); print("no error") } catch (e) { print(e.name, e.message) } finally { print("finally") }
let depth = 0; const deep = () => { depth++; deep() }; try { deep() } catch (e) { print(e.name, depth > 100) }
const log = []; const proxy = new Proxy({}, { get: (t, k) => (log.push(String(k)), k in t ? t[k] : 42), set: (t, k, v) => (t[k] = v, true), has: () => true });
proxy.a = 1; print(proxy.a, proxy.zzz, "q" in proxy, log);
const numbers = Array.from({ length: 500 }, (_, i) => (i * 7919) % 1009); print(numbers.sort((a, b) => a - b).slice(0, 20), numbers.reduce((a, b) => a + b), numbers.findLast(x => x < 10));
const f64 = new Float64Array([0.1, -0, NaN, Infinity, 5e-324]); print(f64, [...new Uint8Array(f64.buffer)].map(x => x.toString(16)).join(""));
const sleep = ms => new Promise((resolve) => resolve(ms));
(async () => { let t = 0; for (let i = 0; i < 20; i++) t += await sleep(i); print("awaited", t); try { await Promise.reject(new Error("rejected")) } catch (e) { print(e.message) } print(await Promise.allSettled([1, Promise.reject(2), sleep(3)]).then(JSON.stringify)) })();
async function* ticks() { for (let i = 0; i < 5; i++) { await null; yield i } } (async () => { for await (const t of ticks()) print("tick", t) })();
print([1, [2, [3, [4]]]].flat(Infinity), "abc".padStart(6, "*"), "ß".toUpperCase(), "İ".toLowerCase().length, "a-b-c".split("-", 2), [..."😀é"].length, "x".localeCompare("y"));
let sum = 0; for (let i = 0; i < 300000; i++) sum = (sum * 31 + i) | 0; print(sum, Math.hypot(3, 4), Math.fround(1.1), Math.clz32(7), Math.imul(-5, 12), 0.1 + 0.2, 1 / 3, 123456789012345680000, 1e-7);
print(new Date(Date.UTC(2024, 1, 29, 12)).toISOString(), typeof Symbol.iterator, [3, 1, 2].toSorted(), Object.groupBy([1, 2, 3], x => x % 2 ? "odd" : "even").odd);
label: for (let i = 0; i < 5; i++) { for (let j = 0; j < 5; j++) { if (j == 3) continue label; if (i == 3) break label; print(i, j) } }
const tag = (s, ...v) => s.raw.join("|") + v.join(); print(tag`a${1}\n${2}c`, ((a, b = a + 1, ...c) => [a, b, c.length])(1, undefined, 3, 4), { ...{ a: 1 }, b: 2 }.b, null ?? "d", undefined?.x, 2 ** 10);
