#!/bin/sh
# Makes the seeds for elf_shared_object: small real modules of both machines, with each kind of table.
set -eu
cd "$(dirname "$0")"
out=corpus/elf_shared_object
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat > "$work/rich.c" <<'C'
extern int host_add(int, int), host_value;
extern int maybe(void) __attribute__((weak));
int counter = 7;
static int hidden = 9;
int zeroed[100];
int *to_counter = &counter, *to_hidden = &hidden, *to_host = &host_value;
int (*to_maybe)(void) = maybe;
int own_add(int a, int b) { return a + b + hidden++; }
int (*const calls[])(int, int) = {own_add, host_add};
int step(int x) { return host_add(x, counter) + own_add(x, host_value) + (maybe ? maybe() : 0); }
__attribute__((constructor)) void up(void) { counter++; }
__attribute__((destructor)) void down(void) { counter--; }
C
cat > "$work/libc.c" <<'C'
#include <stdio.h>
#include <math.h>
int show(double x) { return fprintf(stderr, "%f", sin(x)); }
C
cat > "$work/tls.c" <<'C'
__thread int mine = 3;
extern __thread int theirs;
int both(void) { return mine++ + theirs; }
C
cat > "$work/versions.map" <<'C'
V1 { global: step; local: *; };
C

for machine in x86_64 aarch64; do
    cc=$machine-linux-gnu-gcc
    build() {
        name=$1
        shift
        "$cc" -O1 -w -s -shared -fPIC -Wl,-z,max-page-size=4096 -Wl,-z,noseparate-code -Wl,--build-id=none \
            -o "$out/$machine-$name.so" "$@"
    }
    build gnu "$work/rich.c" -nostdlib -Wl,--hash-style=gnu -Wl,-soname,rich.so
    build sysv "$work/rich.c" -nostdlib -Wl,--hash-style=sysv
    build both "$work/rich.c" -nostdlib -Wl,--hash-style=both -Wl,-z,now -Wl,-z,relro -Wl,-init=up -Wl,-fini=down
    build wide "$work/rich.c" -nostdlib -Wl,-z,max-page-size=65536
    build relr "$work/rich.c" -nostdlib -Wl,-z,pack-relative-relocs # kept as it is where ld cannot pack
    build libc "$work/libc.c" -lm
    build versions "$work/rich.c" -nostdlib -Wl,--version-script="$work/versions.map"
    build tls "$work/tls.c" -nostdlib
done
echo "$(ls "$out" | wc -l) seeds in fuzz/$out"
