"""Makes lists of operations for life.cpp from seeds, runs them, and shrinks what fails: what scripts/life calls."""

import argparse
import random
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

SHOWN = 12  # operations before a failure
PATIENCE = 100  # seconds for a list; the host itself gives up on an operation after 20

# How often what is done. Each seed leaves some of it out, so that what is left comes together more often.
WEIGHTS = {
    "begin": 10, "end": 8, "join": 4, "call": 14, "touch": 6, "spawn": 2, "hold": 4, "return": 5, "anywhere": 4,
    "load": 10, "unload": 2, "rollback": 3, "collect": 4, "restart": 0.4, "wide": 0.4, "hammer": 1.5, "churn": 1,
    "work": 4, "fork": 0.6, "signal": 2, "exit": 4,
}  # fmt: skip
ALWAYS = {"load", "call"}
VARIANTS, HABITS = 6, 8
# As in life.h.
THREADS = 4
CALLED = {"a": "bc", "b": "cd", "c": "d", "d": "", "w": ""}
FUNCTIONS, G = ["f", "hold", "touch", "spawn"], ["g0", "g1", "g2", "g3"]


class Life:
    """The list of operations that a seed stands for."""

    def __init__(self, seed: int, modules: str = "abcd", habits: int = HABITS - 1):
        self.random = random.Random(seed)
        kept = self.random.uniform(0.3, 1)
        self.weights = {
            kind: weight for kind, weight in WEIGHTS.items() if kind in ALWAYS or self.random.random() < kept
        }
        self.modules = sorted(self.random.sample(modules, min(len(modules), self.random.randint(2, 4))))
        # Who calls needs who is called.
        for caller in "abc":
            if caller in self.modules:
                self.modules = sorted({*self.modules, *CALLED[caller]})
        self.threads = self.random.randint(1, 4)
        self.allowed = habits
        self.habits = self.random.randrange(HABITS) & habits
        self.variants = self.random.sample(range(VARIANTS), self.random.randint(2, VARIANTS))
        # What the host has asked for, no later version may lack.
        self.asks_for_g = self.random.choice([0, 0, 0.1])
        self.in_parts = self.random.choice([0, 0.2, 0.6])

    def operations(self) -> list[str]:
        # Some lists are scenes and nothing else.
        count = self.random.randint(10, 250) if self.random.random() < 0.8 else 0
        rest = self.random.choices(list(self.weights), self.weights.values(), k=count)
        operations = [self.load(self.modules)]
        if rest and self.random.random() < 0.5:
            # All addresses are older than any frame.
            operations += [f"0 ask {module} {function}" for module in self.modules for function in FUNCTIONS]
        operations += [self.operation(kind) for kind in rest]
        for scene in self.random.choices([self.race, self.held, self.own_thread], k=self.random.choice([0, 0, 1, 3] if rest else [1])):
            # A race is for functions that are bound for the first time. Early rather than late: before another fault ends the list.
            at = 1 if scene == self.race else 1 + int(len(operations) * self.random.random() ** 2)
            operations[at:at] = self.among_others(scene(), rest)
        if self.random.random() < 0.3:
            operations.append(f"{self.thread()} quit {self.random.choice(['exit', 'exit', 'quick_exit', '_exit'])}")
        return operations

    # Scenes: a few operations whose order matters, which chance alone seldom finds.

    def race(self) -> list[str]:
        """A caller outside frames while what it calls is replaced, with all functions of the wide module in between."""
        module, who = self.random.choice([m for m in self.modules if CALLED[m]] or self.modules), self.thread()
        variants = self.random.sample(range(VARIANTS), 3)
        operations = [f"0 {self.all_at(5)} w=5.0", f"0 anywhere {module} f", "0 wide"]
        for variant in variants:
            operations += [f"&{who} hammer {module}", f"0 {self.all_at(variant)} w={variant}.0"]
        return operations

    def held(self) -> list[str]:
        """A call outside frames during which what it goes on to is replaced."""
        module, (before, after) = self.module(), self.random.sample(range(VARIANTS), 2)
        # Whoever does the rest is another thread.
        who = str(self.threads)
        operations = [f"0 {self.all_at(before)}", f"{who} anywhere {module} hold", f"{who} call {module} hold"]
        return [*operations, f"0 {self.all_at(after)}", *(["0 collect"] * self.random.randrange(2)), f"{who} return"]

    def own_thread(self) -> list[str]:
        """The thread that a version starts has its module replaced, and goes on."""
        # One that calls no other leaves nothing else to go wrong.
        module, who = self.random.choice([self.module(), self.modules[-1]]), f"t{self.random.randrange(3)}"
        before, after = self.random.choices(self.variants, k=2)
        return [f"0 load {module}={before}.{THREADS & self.allowed}", f"{who} load {module}={after}.0", f"{who} work"]

    def all_at(self, variant: int) -> str:
        return " ".join(["load", *(f"{module}={variant}.{self.random.randrange(HABITS) & self.habits}" for module in self.modules)])

    def among_others(self, scene: list[str], kinds: list[str]) -> list[str]:
        """The scene, with other operations in between, or without."""
        share = self.random.choice([0, 0, 0.3]) if kinds else 0
        mixed = []
        for operation in scene:
            mixed.append(operation)
            if self.random.random() < share:
                mixed.append(self.operation(self.random.choice(kinds)))
        return mixed

    def thread(self) -> str:
        return str(self.random.randrange(self.threads))

    def anybody(self) -> str:
        return f"t{self.random.randrange(3)}" if self.random.random() < 0.15 else self.thread()

    def module(self) -> str:
        return self.random.choice(self.modules)

    def load(self, modules: list[str]) -> str:
        same = self.random.choice(self.variants) if self.random.random() >= self.in_parts else None
        if same is None:
            modules = self.random.sample(modules, self.random.randint(1, len(modules)))
        if "wide" in self.weights:
            modules = [*modules, "w"]

        def file(module: str) -> str:
            variant = self.random.choice(self.variants) if same is None else same
            return f"{module}={variant}.{self.random.randrange(HABITS) & self.habits}"

        words = ["load", *map(file, modules)]
        if "rollback" in self.weights and self.random.random() < 0.5:
            words.append("backup")
        if self.random.random() < 0.03:
            words.append(f"refuse={self.module()}")
        return f"{self.anybody()} {' '.join(words)}"

    def operation(self, kind: str) -> str:
        who = self.anybody()
        left = "&" if self.random.random() < 0.15 else ""
        match kind:
            case "load":
                return left + self.load(self.modules)
            case "call":
                function = self.random.choice(G) if self.random.random() < self.asks_for_g else "f"
                return f"{left}{who} call {self.module()} {function}"
            case "touch" | "spawn" | "hold":
                return f"{who} call {self.module()} {kind}"
            case "anywhere":
                return f"{who} anywhere {self.module()} {self.random.choice(FUNCTIONS)}"
            case "hammer" | "churn":
                return f"&{who} {kind} {self.module()}"
            case "unload" | "rollback":
                return f"{who} {kind} {self.module()}"
            case "join":
                return f"{who} join {self.anybody()}"
            case "end":
                return f"{who} end {self.random.randrange(3)}" if self.random.random() < 0.2 else f"{who} end"
            case "work":
                return f"t{self.random.randrange(3)} work"
            case "fork":
                return f"{who} fork {self.random.choice(['exit', 'quick_exit', '_exit'])}"
            case "exit":
                return f"{who} exit open" if self.random.random() < 0.1 else f"{who} exit"
            case "collect":
                return f"{left}{who} collect"
            case _:
                return f"{who} {kind}"


@dataclass
class Result:
    """How a run of a list ended. None: well."""

    failure: str | None
    output: str
    errors: str

    @property
    def kind(self) -> str:
        """What two failures have in common that are the same one: what is said, and during which operation."""
        said = re.sub(r"\(.*?\)|[abcdw]::\w+|[abcdw]#|\b[abcdw]\b|[0-9]+", "*", self.failure or "")
        words = self.output.splitlines()[-1].split() if self.output else []
        return f"{said} {' '.join(words[2:3])}"

    def skipped(self) -> set[int]:
        """The operations that did nothing, from 0."""
        lines = re.findall(r"^(\d+): .* -> (?:skipped|refused)$", self.output, re.MULTILINE)
        return {int(line) - 1 for line in lines}


class Host:
    """Runs lists."""

    def __init__(self, runner: list[str], host: str, modules: Path, compiler: str):
        self.command = [*runner, host, modules]
        self.modules = modules
        self.compiler = compiler
        self.emulated = ["emulated"] if runner else []

    def compile(self, name: str, variant: str, habit: str) -> None:
        """Makes a module, unless it is there."""
        file = self.modules / f"{name}={variant}.{habit}.so"
        if file.exists():
            return
        others = " ".join(f"CALL({other})" for other in CALLED[name])
        defined = [f"-DNAME={name}", f"-DLETTER='{name}'", f"-DVARIANT={variant}", f"-DHABIT={habit}"]
        options = ["-std=gnu++17", "-O1", "-g1", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror"]
        command = [self.compiler, *options, *defined, f"-DOTHERS={others}", f"-Wl,-soname,lib{name}.so"]
        wide = ["-DWIDE"] if name == "w" else []
        new = file.with_suffix(".new")
        subprocess.run([*command, *wide, Path(__file__).with_name("module.cpp"), "-o", new], check=True)
        new.rename(file)

    def run(self, operations: list[str]) -> Result:
        for module in set(re.findall(r" ([a-z])=(\d)\.(\d)", " ".join(operations))):
            self.compile(*module)
        with tempfile.NamedTemporaryFile("w", suffix=".life") as file:
            file.write("\n".join(operations) + "\n")
            file.flush()
            process = subprocess.Popen(
                [*self.command, file.name, *self.emulated], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            try:
                output, errors = process.communicate(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                output, errors = process.communicate()
                return Result("it does not end", output, errors)
        if process.returncode == 0:
            return Result(None, output, errors)
        said = next((line for line in errors.splitlines() if line.strip()), "")
        how = f"signal {-process.returncode}" if process.returncode < 0 else f"status {process.returncode}"
        return Result(f"{how}: {said}", output, errors)

    def failing(self, operations: list[str], kind: str, times: int) -> Result | None:
        """The run that failed in this way, of so many."""
        for _ in range(times):
            result = self.run(operations)
            if result.failure and result.kind == kind:
                return result
        return None


def shrink(host: Host, operations: list[str], first: Result, until: float) -> tuple[list[str], Result]:
    """The shortest list that is found in which the same goes wrong: what can be left out is, in ever smaller parts.

    Threads run as they like, so that a list may fail now and then: it is run as often as shows it with 19 of 20 chances.
    """
    failed = sum(host.failing(operations, first.kind, 1) is not None for _ in range(8))
    times = 1 if failed == 8 else min(20, max(2, 24 // max(failed, 1)))
    result = first
    skipped = result.skipped()
    without = [op for at, op in enumerate(operations) if at not in skipped]
    if again := host.failing(without, first.kind, times):
        operations, result = without, again
    size = max(1, len(operations) // 2)
    while time.monotonic() < until:
        at, changed = 0, False
        while at < len(operations) and time.monotonic() < until:
            shorter = operations[:at] + operations[at + size :]
            if again := host.failing(shorter, first.kind, times):
                operations, result, changed = shorter, again, True
            else:
                at += size
        if size == 1 and not changed:
            break
        size = max(1, size // 2)
    return simplify(host, operations, result, times, until)


def simplify(host: Host, operations: list[str], result: Result, times: int, until: float) -> tuple[list[str], Result]:
    """Leaves out words of operations: modules of a load, and what is said of them."""
    for at in range(len(operations)):
        words = operations[at].split()
        word = 2
        while word < len(words) and words[1] == "load" and time.monotonic() < until:
            simpler = [words[:word] + words[word + 1 :]]
            if "=" in words[word] and not words[word].endswith(".0"):
                simpler.append(words[:word] + [words[word].split(".")[0] + ".0"] + words[word + 1 :])
            for one in simpler:
                changed = operations[:at] + [" ".join(one)] + operations[at + 1 :]
                if len(one) > 2 and (again := host.failing(changed, result.kind, times)):
                    operations, result, words = changed, again, one
                    break
            else:
                word += 1
    return operations, result


def report(what: str, operations: list[str], result: Result) -> None:
    print(f"{what}: {result.failure}")
    print("".join(f"    {line}\n" for line in result.errors.splitlines()[:30]), end="")
    print(f"  the last of {len(operations)} operations:")
    print("".join(f"    {line}\n" for line in result.output.splitlines()[-SHOWN:]), end="", flush=True)


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("--host", required=True)
    options.add_argument("--modules", required=True, type=Path)
    options.add_argument("--compiler", required=True)
    options.add_argument("--runner", default="")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--minutes", type=float, default=1)
    options.add_argument("--shrink", type=float, default=120, help="seconds for each failure")
    options.add_argument("--list")
    options.add_argument("--without", default="", help="kinds of operations, with commas")
    options.add_argument("--modules-of", default="abcd", help="the modules that lists may have")
    options.add_argument("--habits", type=int, default=HABITS - 1, help="bits of what versions may do beside")
    given = options.parse_args()
    for kind in filter(None, given.without.split(",")):
        del WEIGHTS[kind]
    host = Host(given.runner.split(), given.host, given.modules, given.compiler)

    if given.list:
        operations = Path(given.list).read_text().splitlines()
        results = [host.run(operations) for _ in range(10)]
        for result in results:
            if result.failure:
                report(given.list, operations, result)
        failed = sum(result.failure is not None for result in results)
        print(f"{len(results) - failed} passed, {failed} failed")
        return failed > 0

    begin = time.monotonic()
    until = begin + 60 * given.minutes
    seen: set[str] = set()
    seed, passed, done = given.seed, 0, 0
    while time.monotonic() < until or seed == given.seed:
        operations = Life(seed, given.modules_of, given.habits).operations()
        result = host.run(operations)
        done += len(operations)
        if not result.failure:
            passed += 1
        elif result.kind not in seen:
            seen.add(result.kind)
            report(f"seed {seed} after {time.monotonic() - begin:.0f} s", operations, result)
            shorter, last = shrink(host, operations, result, time.monotonic() + given.shrink)
            report(f"  shrunk from {len(operations)} to {len(shorter)} operations", shorter, last)
            print("  --list:\n" + "".join(f"    {line}\n" for line in shorter), flush=True)
        seed += 1
    failed = seed - given.seed - passed
    print(f"seeds {given.seed} to {seed - 1}, {done} operations, {time.monotonic() - begin:.0f} s")
    print(f"{passed} passed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
