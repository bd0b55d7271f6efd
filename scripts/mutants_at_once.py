"""Many mutants in one program, for scripts/mutants: a build for each would take most of a day.

Each mutant is written into the source beside what it changes, behind a question whether it is the one that the environment names. So
there is one build, and a run of a test for a mutant takes as long as the test. Which tests come by a mutant is noted first: the others
are not run for it."""

import collections
import json
import os
import pathlib
import queue
import re
import signal
import subprocess
import sys
import threading
import time

SWITCH = """
/// Whether the environment has chosen this mutant. Notes in the file that it names that somebody came by.
#[doc(hidden)]
#[allow(missing_docs, unreachable_pub, clippy::undocumented_unsafe_blocks)]
pub(crate) mod mutants {
    use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed};
    const UNKNOWN: usize = usize::MAX;
    static CHOSEN: AtomicUsize = AtomicUsize::new(UNKNOWN);
    static PASSED: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
    pub(crate) fn is(number: usize) -> bool {
        let chosen = match CHOSEN.load(Relaxed) { UNKNOWN => choose(), chosen => chosen };
        let passed = PASSED.load(Relaxed);
        if !passed.is_null() { unsafe { passed.add(number).write_volatile(1) } }
        chosen == number
    }
    #[cold]
    fn choose() -> usize {
        unsafe {
            let file = libc::getenv(c"MIDFLIGHT_MUTANTS_PASSED".as_ptr());
            if !file.is_null() {
                let file = libc::open(file, libc::O_RDWR);
                let (all, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
                let memory = libc::mmap(std::ptr::null_mut(), LENGTH, all, shared, file, 0);
                libc::close(file);
                if memory != libc::MAP_FAILED { PASSED.store(memory.cast(), Relaxed); }
            }
            let chosen = libc::getenv(c"MIDFLIGHT_MUTANT".as_ptr());
            let chosen = if chosen.is_null() { UNKNOWN - 1 } else { libc::atoi(chosen) as usize };
            CHOSEN.store(chosen, Relaxed);
            chosen
        }
    }
}
"""
LENGTH = 4096
RETURN = re.compile(rb"if crate::mutants::is\((\d+)\) \{ return[^;]*; \}")
CHOSEN = re.compile(rb"mutants::is\((\d+)\)")


class Source:
    """A file, and its text with all its mutants in it."""

    def __init__(self, parser, text, mutants):
        self.bytes = text.encode()
        self.starts = [0]
        for line in text.split("\n"):
            self.starts.append(self.starts[-1] + len(line.encode()) + 1)
        self.lines = text.split("\n")
        self.operators, self.guards = collections.defaultdict(list), collections.defaultdict(list)
        self.arms, self.bodies, self.ends, self.written = [], collections.defaultdict(list), {}, set()
        for mutant in mutants:
            start, end = (self.offset(mutant["span"][of]) for of in ("start", "end"))
            match mutant["genre"]:
                case "BinaryOperator" | "UnaryOperator":
                    self.operators[start].append(mutant)
                case "MatchArm":
                    self.arms.append((start, end, mutant))
                case "MatchArmGuard":
                    self.guards[start].append(mutant)
                case "FnValue":
                    self.bodies[start].append(mutant)
                    # An iterator of another type cannot be returned: the function's own has nothing left.
                    if mutant["replacement"] == "::std::iter::empty()":
                        self.ends[end] = mutant
        self.tree = parser.parse(self.bytes)

    def offset(self, place):
        line, column = place["line"] - 1, place["column"] - 1
        return self.starts[line] + len(self.lines[line][:column].encode())

    def between(self, start, end):
        return self.bytes[start:end].decode()

    def chosen(self, mutant):
        self.written.add(mutant["number"])
        return f"crate::mutants::is({mutant['number']})"

    def text(self):
        root = self.tree.root_node
        return self.between(0, root.start_byte) + self.render(root) + self.between(root.end_byte, len(self.bytes))

    def render(self, node):
        before = after = ""
        if node.parent is not None and node.parent.type == "block":
            for mutant in self.bodies.pop(node.start_byte, ()):
                value = mutant["replacement"]
                if value == "::std::iter::empty()":
                    before += f"let _ = {self.chosen(mutant)}; "
                else:
                    before += f"if {self.chosen(mutant)} {{ return{'' if value == '()' else ' ' + value}; }} "
            if (mutant := self.ends.pop(node.end_byte, None)) is not None:
                after = f".filter(move |_| !{self.chosen(mutant)})"
        return before + self.changed(node) + after

    def parts(self, children, start, end):
        """Children with what is between them."""
        text = ""
        for child in children:
            text += self.between(start, child.start_byte) + self.render(child)
            start = child.end_byte
        return text + self.between(start, end)

    def changed(self, node):
        text = lambda node: self.between(node.start_byte, node.end_byte)
        operator = node.child_by_field_name("operator")
        if node.type in ("binary_expression", "compound_assignment_expr") and not has_let(node):
            if operator.start_byte in self.operators:
                left, right = (self.render(node.child_by_field_name(of)) for of in ("left", "right"))
                is_value = node.type == "binary_expression"
                left = f"({left})" if is_value else left
                ways = ""
                for mutant in self.operators[operator.start_byte]:
                    ways += f"if {self.chosen(mutant)} {{ {left} {mutant['replacement']} {right} }} else "
                ways += f"{{ {left} {text(operator)} {right} }}"
                return f"({ways})" if is_value else ways
        if node.type == "unary_expression" and node.start_byte in self.operators:
            value = self.render(node.children[1])
            (mutant,) = self.operators[node.start_byte]
            return f"(if {self.chosen(mutant)} {{ {value} }} else {{ {text(node.children[0])}{value} }})"
        if node.type == "match_arm":
            pattern = node.child_by_field_name("pattern")
            guard = pattern.child_by_field_name("condition")
            is_it = lambda start, end: start <= pattern.start_byte and node.end_byte <= end + 1
            gone = [m for start, end, m in self.arms if is_it(start, end) and m["number"] not in self.written]
            changed = self.guards.get(guard.start_byte, []) if guard else []
            if (gone or changed) and not (guard and has_let(guard)):
                head, conditions = text(pattern) + " ", [f"!{self.chosen(mutant)}" for mutant in gone]
                if guard:
                    head = self.between(pattern.start_byte, guard.start_byte).rstrip().removesuffix("if")
                    value = f"({self.render(guard)})"
                    for mutant in sorted(changed, key=lambda mutant: mutant["replacement"], reverse=True):
                        is_true = mutant["replacement"] == "true"
                        value = f"({'' if is_true else '!'}{self.chosen(mutant)} {'||' if is_true else '&&'} {value})"
                    conditions.append(value)
                rest = [child for child in node.children if child.start_byte >= pattern.end_byte]
                head = self.between(node.start_byte, pattern.start_byte) + head
                return f"{head}if {' && '.join(conditions)}" + self.parts(rest, pattern.end_byte, node.end_byte)
        if not node.children:
            return text(node)
        return self.parts(node.children, node.start_byte, node.end_byte)


def has_let(node):
    return node.type in ("let_condition", "let_chain") or (
        node.type == "binary_expression" and any(has_let(child) for child in node.children)
    )


def parser(work):
    """tree-sitter's, of PyPI, under target/ where it is not there."""
    folder = work / "python"
    if not folder.is_dir():
        packages = ["tree-sitter==0.26.1", "tree-sitter-rust==0.24.2"]
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--target", folder, *packages], check=True)
    sys.path.insert(0, str(folder))
    import tree_sitter
    import tree_sitter_rust

    return tree_sitter.Parser(tree_sitter.Language(tree_sitter_rust.language()))


def write(root, tree, parse, mutants, files):
    """Writes the files with these mutants. Returns those that are in them."""
    written = set()
    for file in files:
        of = [mutant for mutant in mutants if mutant["file"] == file]
        source = Source(parse, (root / file).read_text(), of)
        (tree / file).write_text(source.text())
        written |= source.written
    (tree / "src/lib.rs").write_text((root / "src/lib.rs").read_text() + SWITCH.replace("LENGTH", str(LENGTH)))
    return [mutant for mutant in mutants if mutant["number"] in written]


def without_errors(root, tree, parse, mutants, env):
    """Leaves out what does not compile: mostly values that a type has not."""
    files = {mutant["file"] for mutant in mutants}
    while True:
        mutants = write(root, tree, parse, mutants, files)
        command = ["cargo", "check", "--quiet", "--lib", "--message-format=json"]
        told = subprocess.run(command, cwd=tree, env=env, stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL)
        messages = [json.loads(line).get("message") for line in told.stdout.splitlines() if line.startswith("{")]
        errors = [message for message in messages if message and message["level"] == "error" and message["spans"]]
        if not errors and told.returncode == 0:
            return mutants
        wrong = set()
        for error in errors:
            for span in error["spans"]:
                text = (tree / span["file_name"]).read_bytes()
                returns = list(RETURN.finditer(text))
                around = [m[1] for m in returns if m.start() <= span["byte_start"] < m.end()]
                if not around and span["is_primary"]:
                    # In an expression: the last one that begins before it on this line.
                    line = text[text.rfind(b"\n", 0, span["byte_start"]) : span["byte_end"]]
                    values = {m[1] for m in returns}
                    around = [number for number in CHOSEN.findall(line) if number not in values][-1:]
                wrong |= {int(number) for number in around}
        left = [mutant for mutant in mutants if mutant["number"] not in wrong]
        if len(left) == len(mutants):
            sys.exit("mutants: does not compile: " + "".join(error["rendered"] for error in errors))
        mutants = left


class Tests:
    """The package's tests, each of which runs in a process of its own."""

    def __init__(self, tree, env):
        self.tree, self.env, self.programs = tree, env, {}
        command = ["cargo", "test", "--quiet", "--no-run", "--lib", "--tests", "--package", "midflight"]
        built = subprocess.run([*command, "--message-format=json"], cwd=tree, env=env, stdout=subprocess.PIPE, text=True, check=True)
        for line in built.stdout.splitlines():
            artifact = json.loads(line)
            if artifact.get("executable"):
                self.programs[artifact["target"]["name"]] = artifact["executable"]

    def all(self):
        def names(program, *more):
            command = [program, "--list", "--format=terse", *more]
            lines = subprocess.run(command, cwd=self.tree, env=self.env, capture_output=True, text=True).stdout.splitlines()
            return {line.removesuffix(": test") for line in lines}

        for name, program in sorted(self.programs.items()):
            for test in sorted(names(program) - names(program, "--ignored")):
                # Of files that are watched: they wait, and publish nothing.
                if not test.startswith("watch::"):
                    yield name, test

    def passes(self, test, timeout, **more):
        program, name = test
        env = dict(self.env, CARGO_MANIFEST_DIR=str(self.tree), **more)
        command = [self.programs[program], "--exact", name, "--test-threads=1"]
        none = subprocess.DEVNULL
        run = subprocess.Popen(command, cwd=self.tree, env=env, stdin=none, stdout=none, stderr=none, start_new_session=True)
        try:
            return run.wait(timeout) == 0
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
            return False


def for_each(items, work):
    """On several threads."""
    waiting = queue.SimpleQueue()
    for item in items:
        waiting.put(item)

    def worker(number):
        while True:
            try:
                item = waiting.get_nowait()
            except queue.Empty:
                return
            work(number, item)

    threads = [threading.Thread(target=worker, args=(number,)) for number in range(os.cpu_count() or 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def run(root, tree, work, listed):
    """Tries these mutants, as cargo-mutants lists them. Returns how many have died, and the names of those that have not."""
    mutants = [dict(mutant, number=number) for number, mutant in enumerate(listed)]
    assert len(mutants) < LENGTH
    # Built once, so incremental compilation would only cost.
    env = dict(os.environ, CARGO_TARGET_DIR=str(work / "target-at-once"), CARGO_INCREMENTAL="0")
    viable = without_errors(root, tree, parser(work), mutants, env)
    tests = Tests(tree, env)
    passing = collections.defaultdict(list)

    def note(worker, test):
        file = work / f"passed-{worker}"
        file.write_bytes(bytes(LENGTH))
        begin = time.monotonic()
        if not tests.passes(test, 300, MIDFLIGHT_MUTANTS_PASSED=str(file)):
            print(f"left out, for it fails with nothing changed: {'::'.join(test)}", flush=True)
            return
        took = time.monotonic() - begin
        for number, passed in enumerate(file.read_bytes()):
            if passed:
                passing[number].append((took, test))

    for_each(list(tests.all()), note)
    died, survived = [], []

    def attempt(_, mutant):
        number = str(mutant["number"])
        for took, test in sorted(passing[mutant["number"]]):
            # Twice: what fails once may have been late.
            if not any(tests.passes(test, max(20, 10 * took), MIDFLIGHT_MUTANT=number) for _ in range(2)):
                died.append(mutant["name"])
                return
        print(f"SURVIVED  {mutant['name']}", flush=True)
        survived.append(mutant["name"])

    for_each(viable, attempt)
    print(f"{len(listed)} mutants, of which {len(listed) - len(viable)} do not compile or cannot be chosen", flush=True)
    return len(died), survived
