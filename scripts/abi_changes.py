"""What midflight-interface and abidiff say has changed, as sets that can be compared, for scripts/abi-agreement."""

import pathlib
import re
import subprocess
import time
import typing


class Changes(typing.NamedTuple):
    # Exports that are gone, functions and variables.
    removed: set[str]
    # Exports whose own type has changed: signatures of functions, sizes of variables. Of abidiff, with the types that it names for each.
    exports: dict[str, set[str]]
    # Structures, unions and enumerations whose layout or values have changed, for callers.
    types: set[str]
    # Those that only what is left in memory has, such as opaque ones.
    hidden: set[str]
    seconds: float


def bare(name: str) -> str:
    """A type's name without its keyword. What is in it without a name of its own counts as the type that it is in."""
    return re.sub(r"^(typedef|struct|union|enum|class) ", "", name).split(".")[0]


def timed(command: list, codes: tuple[int, ...]) -> tuple[str, float]:
    start = time.perf_counter()
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    took = time.perf_counter() - start
    if said.returncode not in codes:
        raise SystemExit(f"{command}: it ended with {said.returncode}")
    return said.stdout, took


def of_midflight(tool: pathlib.Path, old: pathlib.Path, new: pathlib.Path) -> Changes:
    said, took = timed([tool, old, new, "100000"], (0,))
    changes = Changes(set(), {}, set(), set(), took)
    for line in said.splitlines():
        found = re.match(r"(links|calls|state): ([a-z ]+): ((?:[^:]|::)+): ", line)
        if not found or line.endswith("(compatible)"):
            continue
        aspect, kind, subject = found.groups()
        if kind == "export removed":
            changes.removed.add(subject)
        elif kind in ("signature changed", "size changed", "export is something else"):
            changes.exports[subject] = set()
        elif kind in ("layout changed", "enumeration changed", "type changed"):
            (changes.hidden if aspect == "state" else changes.types).add(bare(subject))
        # Variables that are not exported are nobody's but the module's: abidiff is not asked of them.
    return changes


def of_abidiff(old: pathlib.Path, new: pathlib.Path) -> Changes:
    said, took = timed(["abidiff", "--leaf-changes-only", "--no-added-syms", "--no-show-locs", old, new], (0, 4, 8, 12))
    changes = Changes(set(), {}, set(), set(), took)
    # A symbol without a declaration is there by its name alone.
    changes.removed.update(re.findall(r"^  \[D\] .*\{+([^{}]+)\}+$", said, re.M), re.findall(r"^  \[D\] (\w+)$", said, re.M))
    for name in re.findall(r"^'([^']+)' changed:", said, re.M):
        changes.types.add(bare(name))
    block = None
    for line in said.splitlines():
        if found := re.match(r"  \[C\] '([^']+)'", line):
            what = found.group(1)
            name = re.search(r"(\w+)\(", what) if what.startswith("function ") else re.search(r"(\w+)(?:\[\d*\])*$", what)
            block = changes.exports.setdefault(name.group(1), set())
        elif not line.strip():
            block = None
        elif block is not None:
            block.update(bare(re.sub(r"[*&\s]+$|^const ", "", word)) for word in re.findall(r"'([^']+)'", line))
    return changes
