"""Runs the legs of the tests, two at a time: what scripts/test calls.

A leg is an executable file beside this one. Comments at its head say what it needs:

    # budget: 120 s          it fails if it takes longer
    # full-budget: 900 s     the same for its long form (--full); without it there is no other form
    # after: native          it uses what that leg has built, and starts when it has ended
    # full only              it is run by --full only

With --full a leg finds MIDFLIGHT_FULL=1 in its environment. What a leg prints goes to target/test/LEG.log, and is shown if
it fails. How many tests it ran is read from there: from the closing lines of cargo test and nextest, or from lines
"N passed, N failed". A leg that ran none has failed. Every run leaves target/test/summary.json.

Two legs share the cores because one of them alone uses them half: of the 58 minutes that the legs took one after the
other on two cores, 42 were one core's (linkers, scripts, programs of one thread).
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

LEGS = Path(__file__).resolve().parent
ROOT = LEGS.parent.parent
OUT = ROOT / "target" / "test"

# How runners close. Each match is added: a leg may run several.
CLOSING = [
    # nextest: "Summary [   9.1s] 12 tests run: 11 passed (1 slow), 1 failed, 3 skipped"
    re.compile(r"^ *Summary \[.*?\] +(?:\d+/)?\d+ tests? run: (?P<passed>\d+) passed(?: \([^)]*\))?(?P<rest>.*)$"),
    # cargo test: "test result: ok. 12 passed; 0 failed; ..."
    re.compile(r"^test result: \w+\. (?P<passed>\d+) passed; (?P<failed>\d+) failed;"),
    # Our own scripts: "12 passed, 0 failed", after a word and a colon if there is one.
    re.compile(r"^(?:[\w-]+: )?(?P<passed>\d+) passed, (?P<failed>\d+) failed$"),
]


@dataclass
class Leg:
    name: str
    about: str
    budget: int
    after: list[str]
    result: str = "waiting"
    passed: int = 0
    failed: int = 0
    seconds: float = 0.0
    processor: float = 0.0
    why: str = ""
    process: subprocess.Popen | None = field(default=None, repr=False)

    @property
    def log(self) -> Path:
        return OUT / f"{self.name}.log"

    def line(self) -> str:
        time_of = f"{self.seconds:5.0f} s of {self.budget:4d} {self.processor:6.0f} s of a core"
        return f"{self.result:8} {self.name:20} {self.passed + self.failed:6d} tests {time_of}  {self.why}".rstrip()


def read_leg(path: Path, full: bool) -> Leg | None:
    """The leg of a file; None if it is not for this kind of run."""
    about, said = "", {}
    for line in path.read_text().splitlines()[1:]:
        if not line.startswith("#"):
            break
        text = line[1:].strip()
        about = about or text
        if text == "full only":
            said["full only"] = ""
        elif found := re.fullmatch(r"(budget|full-budget): (\d+) s|(after): ([\w -]+)", text):
            said[found[1] or found[3]] = found[2] or found[4]
    if "full only" in said and not full:
        return None
    budget = said.get("full-budget") if full else None
    budget = budget or said.get("budget")
    if budget is None:
        sys.exit(f"{path}: no line `# budget: N s` at its head")
    return Leg(path.name, about, int(budget), said.get("after", "").split())


def find_legs(full: bool) -> list[Leg]:
    files = sorted(path for path in LEGS.iterdir() if path.is_file() and os.access(path, os.X_OK))
    legs = [leg for path in files if (leg := read_leg(path, full))]
    names = {leg.name for leg in legs}
    for leg in legs:
        if unknown := [name for name in leg.after if name not in names]:
            sys.exit(f"{LEGS / leg.name}: runs after {' '.join(unknown)}, and there is no such leg")
    return legs


def count(log: Path) -> tuple[int, int]:
    """Tests that passed, and that failed, by what the leg printed."""
    passed = failed = 0
    for line in log.read_text(errors="replace").splitlines():
        for closing in CLOSING:
            if found := closing.match(line):
                passed += int(found["passed"])
                if "rest" in found.groupdict():
                    failed += sum(int(n) for n in re.findall(r"(\d+) (?:failed|timed out|exec failed)", found["rest"]))
                else:
                    failed += int(found["failed"])
    return passed, failed


def run(leg: Leg, full: bool) -> None:
    """Runs a leg to its end, or to that of its budget."""
    environment = dict(os.environ, CARGO_TERM_COLOR="never")
    environment.pop("MIDFLIGHT_FULL", None)
    if full:
        environment["MIDFLIGHT_FULL"] = "1"
    began = time.monotonic()
    with leg.log.open("w") as log:
        # A group of its own: all that it started is ended with it.
        leg.process = subprocess.Popen(
            [LEGS / leg.name], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )
        late = threading.Event()
        alarm = threading.Timer(leg.budget, lambda: (late.set(), end(leg)))
        alarm.start()
        try:
            # With what it and all that it waited for have used of the processors.
            _, status, used = os.wait4(leg.process.pid, 0)
            code = leg.process.returncode = os.waitstatus_to_exitcode(status)
            leg.processor = used.ru_utime + used.ru_stime
            leg.why = "" if code == 0 else f"exit status {code}" if code > 0 else f"ended by signal {-code}"
            if late.is_set():
                leg.why = "over its budget: ended"
        finally:
            alarm.cancel()
            end(leg)
    leg.seconds = time.monotonic() - began
    leg.passed, leg.failed = count(leg.log)
    if not leg.why and leg.failed:
        leg.why = f"{leg.failed} failed"
    if not leg.why and not leg.passed:
        leg.why = "ran no test"
    leg.result = "FAILED" if leg.why else "passed"


def end(leg: Leg) -> None:
    """Ends what is left of a leg's processes."""
    if leg.process:
        try:
            os.killpg(leg.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def run_all(legs: list[Leg], at_once: int, full: bool) -> None:
    """Runs what is waiting. The longest come first, as far as they may: then no core is idle at the end."""
    changed = threading.Condition()
    by_name = {leg.name: leg for leg in legs}
    unfinished = ("waiting", "running")

    def may_start(leg: Leg) -> bool:
        return leg.result == "waiting" and all(by_name[name].result not in unfinished for name in leg.after)

    def next_leg() -> Leg | None:
        with changed:
            while any(leg.result == "waiting" for leg in legs):
                ready = [leg for leg in legs if may_start(leg)]
                if ready:
                    leg = max(ready, key=lambda leg: weight(leg))
                    leg.result = "running"
                    print(f"running  {leg.name:20} {leg.about}", flush=True)
                    return leg
                changed.wait()
        return None

    def weight(leg: Leg) -> int:
        """Its own budget, and that of what can only start then."""
        return leg.budget + max((weight(other) for other in legs if leg.name in other.after), default=0)

    def work() -> None:
        while leg := next_leg():
            run(leg, full)
            with changed:
                print(leg.line(), flush=True)
                if leg.result == "FAILED":
                    show(leg)
                changed.notify_all()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        # By turns, as a signal is taken between them.
        while thread.is_alive():
            thread.join(1)


def show(leg: Leg, most: int = 400) -> None:
    lines = leg.log.read_text(errors="replace").splitlines()
    print(f"-- {leg.name}: the end of {leg.log.relative_to(ROOT)} ({len(lines)} lines)")
    print("\n".join(f"    {line}" for line in lines[-most:]), flush=True)
    print(f"-- {leg.name}: end of log", flush=True)


def git(*arguments: str) -> str:
    found = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    return found.stdout.strip() if found.returncode == 0 else ""


def summarise(legs: list[Leg], started: float, full: bool) -> None:
    now = time.time()
    summary = {
        "commit": git("rev-parse", "HEAD"),
        "clean": not git("status", "--porcelain"),
        "full": full,
        "started": int(started),
        "seconds": round(now - started),
        "legs": [
            {
                "name": leg.name, "result": leg.result.lower(), "tests": leg.passed + leg.failed,
                "seconds": round(leg.seconds), "processor": round(leg.processor), "budget": leg.budget,
            }
            for leg in legs
        ],
    }
    (OUT / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")


def interrupted(*_) -> None:
    raise KeyboardInterrupt


def main() -> int:
    # Whoever ends this ends the legs.
    signal.signal(signal.SIGTERM, interrupted)
    full = "--full" in sys.argv[1:]
    legs = find_legs(full)
    names = [leg.name for leg in legs]
    parser = argparse.ArgumentParser(prog="scripts/test", description="Passes all the tests.")
    parser.add_argument("--full", action="store_true", help="the long forms as well: hours, before a stage is called done")
    parser.add_argument("--only", action="append", default=[], metavar="LEG", choices=names, help="this leg; may be repeated")
    parser.add_argument("--skip", action="append", default=[], metavar="LEG", choices=names, help="not this leg; may be repeated")
    parser.add_argument("--at-once", type=int, default=2, metavar="N", help="how many legs run at a time [2]")
    parser.add_argument("--times", type=int, default=1, metavar="N", help="run them so many times in a row [1]")
    parser.add_argument("--busy", type=int, default=0, metavar="N", help="so many busy loops beside them [0]")
    parser.add_argument("--list", action="store_true", help="print the legs, and run nothing")
    options = parser.parse_args()

    if options.list:
        for leg in legs:
            print(f"{leg.name:20} {leg.budget:5d} s  {leg.about}")
        return 0
    OUT.mkdir(parents=True, exist_ok=True)
    neighbours = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(options.busy)]
    failed = []
    try:
        for time_ in range(options.times):
            started = time.time() if time_ else float(os.environ.get("MIDFLIGHT_TEST_STARTED", time.time()))
            legs = find_legs(full)
            for leg in legs:
                if leg.name in options.skip or (options.only and leg.name not in options.only):
                    leg.result = "skipped"
            failed += run_once(legs, max(1, options.at_once), full, started)
    finally:
        for neighbour in neighbours:
            neighbour.kill()
    if options.times > 1:
        print(f"{options.times} times; legs that failed: {' '.join(failed) or 'none'}")
    return 1 if failed else 0


def run_once(legs: list[Leg], at_once: int, full: bool, started: float) -> list[str]:
    """Runs the legs, says how it went, and returns which have failed."""
    try:
        run_all(legs, at_once, full)
    finally:
        # Those that are left, if this is ended before they are.
        for leg in legs:
            leg.result = "skipped" if leg.result == "waiting" else leg.result
            end(leg)
        summarise(legs, started, full)

    print(f"== summary, {time.time() - started:.0f} s")
    for leg in legs:
        if leg.result != "skipped":
            print(leg.line())
    if skipped := [leg.name for leg in legs if leg.result == "skipped"]:
        print(f"skipped on request: {' '.join(skipped)}")
    failed = [leg.name for leg in legs if leg.result == "FAILED"]
    print(f"legs that failed: {' '.join(failed) or 'none'}")
    # How many tests there were: the last line, which those look for who read what a run printed.
    print(f"{sum(leg.passed for leg in legs)} passed, {sum(leg.failed for leg in legs)} failed", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
