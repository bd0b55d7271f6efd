# What legs share. A leg begins with `. "$(dirname "$0")/common.sh"`, and then is in the repository's folder.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# One that scripts/setup has installed.
PATH=$PATH:$PWD/target/nextest/bin

# What only one run uses need not be kept for the next: tests build in 42 s instead of 55.
export CARGO_INCREMENTAL=0

is_full() { [ -n "${MIDFLIGHT_FULL-}" ]; }

# The compiler that has a target's standard library: rustup's where it was asked for it, else Debian's.
rustup_has() { [ -d "$(rustc --print sysroot)/lib/rustlib/$1" ]; }
with_target() {
    local target=$1
    shift
    if rustup_has "$target"; then "$@"; else RUSTC=/usr/bin/rustc "$@"; fi
}
# As above, for targets whose standard library is built from source where it is not installed. $2: which crates of it.
with_built_std() {
    local target=$1 crates=$2 command=$3
    shift 3
    if rustup_has "$target"; then
        cargo "$command" --target "$target" "$@"
    else
        RUSTC_BOOTSTRAP=1 RUSTC=/usr/bin/rustc cargo "$command" "-Zbuild-std=$crates" --target "$target" "$@"
    fi
}

# Runs a command of cargo that only builds or checks, and counts as a test each target of ours that it came to. $@: after `cargo`.
counted() {
    local messages
    messages=$(mktemp)
    # What is wrong goes to the log as always.
    cargo "$1" --message-format=json-render-diagnostics "${@:2}" >"$messages" || { echo "0 passed, 1 failed"; return 1; }
    # A package of the registry is outside of the repository.
    echo "$(grep -c "^{\"reason\":\"compiler-artifact\",\"package_id\":\"path+file://$PWD[/#]" "$messages") passed, 0 failed"
    rm "$messages"
}

# All crates that have tests. With the benches, which have none, criterion is built, and by what it asks of others' features so is all
# of midflight: a second time for each leg that tests some crates only. (The leg `lint` compiles them.)
workspace=(--workspace --exclude midflight-benches)

# The tests natively, by nextest. $@: as nextest takes them; all of what is named, unless it is a file of tests.
native_tests() {
    all_unless_named "$@"
    cargo nextest run --locked "${kinds[@]}" "$@"
}
all_unless_named() {
    kinds=()
    [[ " $* " == *" --test "* ]] || kinds=(--lib --bins --tests)
}

# The tests for AArch64, on a CPU of QEMU's (none: its best one). Never with -L: with the multiarch libc installed it mixes two builds of
# glibc. On an AArch64 host the run without a CPU is native.
aarch64_tests() {
    local cpu=$1
    shift
    if [ "$(uname -m)" != aarch64 ] || [ -n "$cpu" ]; then
        export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64${cpu:+ -cpu $cpu}"
        # For tests that start themselves again, and for what only a real process shows.
        export MIDFLIGHT_TEST_RUNNER=$CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER
    fi
    all_unless_named "$@"
    for_aarch64 nextest run --locked "${kinds[@]}" "$@"
}

# cargo for AArch64 in the profile of the tests. $@: its command, and what follows it.
for_aarch64() {
    # The emulator runs what is optimised five times as fast. Assertions stay.
    local crate optimised=()
    for crate in midflight midflight-dispatch midflight-image midflight-interface object; do
        optimised+=(--config "profile.dev.package.$crate.opt-level=1")
    done
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
    with_target aarch64-unknown-linux-gnu cargo "$@" --target aarch64-unknown-linux-gnu "${optimised[@]}"
}
