#!/bin/sh
# Makes the seeds: small real modules of both machines, with each kind of table, and object files and archives of the same.
set -eu
cd "$(dirname "$0")"
out=corpus/elf_shared_object
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# module COMPILER OUTPUT ...: a module that is as small as the linker makes it.
module() {
    compiler=$1 output=$2
    shift 2
    "$compiler" -shared -s -Wl,-z,max-page-size=4096 -Wl,-z,noseparate-code -Wl,--build-id=none -o "$output" "$@"
}

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
cat > "$work/notes.c" <<'C'
#include "runtime_module.h"
RUNTIME_MODULE("notes", "1.2")
RUNTIME_MODULE_NEEDS("other")
MIDFLIGHT_STATE(long, kept, 3) = 4;
int module_init(void) { return 0; }
void module_shutdown(void) {}
C
cat > "$work/libc.c" <<'C'
#include <stdio.h>
#include <math.h>
int show(double x) { return fprintf(stderr, "%f", sin(x)); }
C
cat > "$work/tls.c" <<'C'
__thread int mine = 3, zeros[9];
static __thread int one = 9, two;
extern __thread int theirs, maybe __attribute__((weak));
int plain;
__thread int *pointer = &plain;
int both(void) { return mine++ + theirs; }
int local(void) { return one++ + two++ + (&maybe ? maybe : zeros[3]); }
C
cat > "$work/theirs.c" <<'C'
extern __thread int theirs;
int f(void) { return theirs; }
C
cat > "$work/ifunc.c" <<'C'
static int one(void) { return 1; }
static void *pick(void) { return one; }
int chosen(void) __attribute__((ifunc("pick")));
static int own(void) __attribute__((ifunc("pick")));
int (*pointers[])(void) = {chosen, own};
int f(void) { return chosen() + own(); }
C
cat > "$work/versions.c" <<'C'
#include <stdio.h>
__asm__(".symver f_old,f@V1");
__asm__(".symver f_new,f@@V2");
int f_old(void) { return 1; }
int f_new(void) { return puts("new"); }
C
cat > "$work/versions.map" <<'C'
V1 { global: f; local: *; };
V2 { global: f; } V1;
C

for machine in x86_64 aarch64; do
    cc=$machine-linux-gnu-gcc
    build() {
        name=$1
        shift
        module "$cc" "$out/$machine-$name.so" -O1 -w -fPIC "$@"
    }
    build gnu "$work/rich.c" -nostdlib -Wl,--hash-style=gnu -Wl,-soname,rich.so
    build sysv "$work/rich.c" -nostdlib -Wl,--hash-style=sysv
    build both "$work/rich.c" -nostdlib -Wl,--hash-style=both -Wl,-z,now -Wl,-z,relro -Wl,-init=up -Wl,-fini=down
    build wide "$work/rich.c" -nostdlib -Wl,-z,max-page-size=65536
    build relr "$work/rich.c" -nostdlib -Wl,-z,pack-relative-relocs # kept as it is where ld cannot pack
    build libc "$work/libc.c" -lm
    build notes "$work/notes.c" -nostdlib -I../include -Wl,--build-id
    build versions "$work/versions.c" -Wl,--version-script="$work/versions.map"
    case $machine in
        x86_64) dialects="gnu gnu2" ;;
        aarch64) dialects="trad desc" ;;
    esac
    for dialect in $dialects; do
        build "tls-$dialect" "$work/tls.c" -nostdlib "-mtls-dialect=$dialect"
    done
    build initial-exec "$work/theirs.c" -nostdlib -ftls-model=initial-exec
    build ifunc "$work/ifunc.c" -nostdlib
done
echo "$(ls "$out" | wc -l) seeds in fuzz/$out"

objects=corpus/elf_objects
mkdir -p "$objects"
cat > "$work/cxx.cpp" <<'C'
template <class T> struct Box { T value; Box(T x) : value(x) {} virtual T get() { if (value > 3) throw value; return value; } };
inline int counter() { static int count; return ++count; }
extern "C" int use(int x) { Box<int> box(x); try { return box.get() + counter(); } catch (int y) { return y; } }
C
cat > "$work/set.c" <<'C'
int common[7];
extern char __start_set[], __stop_set[];
__attribute__((section("set"))) int member = 4;
__attribute__((visibility("hidden"))) long size(void) { return __stop_set - __start_set; }
C
separated() {
    cat "$1"
    shift
    for file; do
        printf '\n=next=\n'
        cat "$file"
    done
}
for machine in x86_64 aarch64; do
    for how in "O0 -fno-pic" "O2 -fPIC -ffunction-sections -g" "O1 -fpic -fno-plt -mcmodel=large"; do
        name=$machine-$(echo "$how" | tr -d ' =-')
        case $machine$how in aarch64*large) how="O1 -fpic" ;; esac
        for source in rich notes libc tls theirs ifunc set cxx; do
            file=$work/$source.c
            compiler=gcc
            [ -f "$file" ] || { file=$work/$source.cpp && compiler=g++; }
            # shellcheck disable=SC2086
            "$machine-linux-gnu-$compiler" -w -$how -I../include -c "$file" -o "$work/$source.o"
            cp "$work/$source.o" "$objects/$name-$source.o"
        done
        separated "$work/rich.o" "$work/set.o" "$work/cxx.o" > "$objects/$name-three"
        separated "$work/tls.o" "$work/theirs.o" > "$objects/$name-two"
        rm -f "$objects/$name.a"
        "$machine-linux-gnu-ar" rcD "$objects/$name.a" "$work/rich.o" "$work/set.o" "$work/ifunc.o"
        separated "$work/libc.o" "$objects/$name.a" > "$objects/$name-archive"
    done
done
echo "$(ls "$objects" | wc -l) seeds in fuzz/$objects"

# Mach-O for arm64, with both forms of fix-ups.
macho=corpus/macho_shared
mkdir -p "$macho"
cat > "$work/macho.c" <<'C'
extern int host_add(int, int), host_value[9];
extern int maybe(void) __attribute__((weak_import));
int counter = 7, zeroed[100];
static int hidden = 9;
int *to_counter = &counter, *to_hidden = &hidden, *to_host = &host_value[3], (*to_maybe)(void) = maybe;
__attribute__((weak)) int soft(int x) { return x; }
__thread int mine = 3, zeros[9], *pointer = &counter;
int step(int x) { return host_add(x, counter) + soft(x) + mine++ + zeros[1] + hidden++ + (maybe ? maybe() : 0) + *pointer; }
__attribute__((constructor)) void up(void) { counter++; }
__attribute__((destructor)) void down(void) { counter--; }
C
for source in macho.c cxx.cpp; do
    clang-19 -target arm64-apple-macos11 -w -O1 -c "$work/$source" -o "$work/macho.o"
    for how in "dylib -fixup_chains" "dylib -no_fixup_chains" "dylib -flat_namespace -init_offsets" "bundle -no_fixup_chains -no_data_const" "bundle -fixup_chains"; do
        # shellcheck disable=SC2086
        ld64.lld-19 -$how -arch arm64 -platform_version macos 11.0 11.0 -undefined dynamic_lookup "$work/macho.o" \
            -o "$macho/$source-$(echo "$how" | tr -d ' -')"
    done
done
echo "$(ls "$macho" | wc -l) seeds in fuzz/$macho"

objects=corpus/macho_objects
mkdir -p "$objects"
for how in O0 O1 O2; do
    for source in macho.c cxx.cpp; do
        clang-19 -target arm64-apple-macos11 -w "-$how" -c "$work/$source" -o "$work/$source.o"
        cp "$work/$source.o" "$objects/$how-$source.o"
    done
    separated "$work/macho.c.o" "$work/cxx.cpp.o" > "$objects/$how-two"
    rm -f "$work/macho.a"
    llvm-ar-19 --format=darwin rcD "$work/macho.a" "$work/macho.c.o" "$work/cxx.cpp.o"
    cp "$work/macho.a" "$objects/$how.a"
done
echo "$(ls "$objects" | wc -l) seeds in fuzz/$objects"

# Modules with debug information, and pairs of versions.
interface=corpus/interface
mkdir -p "$interface"
cat > "$work/older.c" <<'C'
typedef struct list list;
struct list { list *next; unsigned a : 3, b : 9; union { int i; float f; } u; char name[4][2]; };
enum kind { ONE, TWO = 7 };
static list *all;
__thread int mine;
int f(list *l, enum kind k, ...) { static list own; all = l; own = *l; return l->a + k + mine; }
void g(int (*call)(list *), struct list by_value) { call(&by_value); }
C
sed 's/unsigned a : 3/unsigned a : 4/; s/TWO = 7/TWO = 8/; s/int (\*call)/long (*call)/' "$work/older.c" > "$work/newer.c"
for machine in x86_64 aarch64; do
    for how in "gdwarf-4 -fPIC" "gdwarf-5 -fPIC" "gdwarf-4 -fdebug-types-section -fPIC" "gdwarf-5 -shared -fPIC -nostdlib -Wl,-z,max-page-size=4096"; do
        name=$machine-$(echo "$how" | tr -d ' =-')
        case $how in *shared*) form= ;; *) form=-c ;; esac
        for source in older.c newer.c cxx.cpp; do
            compiler=gcc
            case $source in cxx.cpp) [ "$form" ] && compiler=g++ || continue ;; esac
            # shellcheck disable=SC2086
            "$machine-linux-gnu-$compiler" -w -O1 -$how $form "$work/$source" -o "$work/${source%%.*}.out"
        done
        { cat "$work/older.out" && printf '\n=newer=\n' && cat "$work/newer.out"; } > "$interface/$name-two"
        if [ "$form" ]; then
            separated "$work/older.out" "$work/cxx.out" > "$interface/$name-files"
        fi
    done
done
echo "$(ls "$interface" | wc -l) seeds in fuzz/$interface"

# Modules of which every function does what the target `runtime` knows (fuzz/runtime/harmless.rs).
runtime=corpus/runtime
mkdir -p "$runtime"
cat > "$work/known.x86_64.s" <<'S'
.macro function name
        .globl \name
        .type \name, @function
\name:  .cfi_startproc
.endm
.macro end name
        .cfi_endproc
        .size \name, . - \name
.endm
.macro number name, number
        function \name
        movl $\number, %eax
        ret
        end \name
.endm
.macro asks name, symbol
        function \name
        pushq %rax
        .cfi_adjust_cfa_offset 8
        call *\symbol@GOTPCREL(%rip)
        popq %rcx
        .cfi_adjust_cfa_offset -8
        ret
        end \name
.endm
.macro variable name, symbol
        function \name
        pushq %rax
        .cfi_adjust_cfa_offset 8
        leaq \symbol@tlsdesc(%rip), %rax
        call *\symbol@tlscall(%rax)
        popq %rcx
        .cfi_adjust_cfa_offset -8
        ret
        end \name
.endm
.macro returns name
        function \name
        ret
        end \name
.endm
        .text
S
cat > "$work/known.aarch64.s" <<'S'
.macro function name
        .globl \name
        .type \name, %function
\name:  .cfi_startproc
.endm
.macro end name
        .cfi_endproc
        .size \name, . - \name
.endm
.macro number name, number
        function \name
        mov w0, #\number
        ret
        end \name
.endm
.macro returns name
        function \name
        ret
        end \name
.endm
        .text
S
cat > "$work/plain.s" <<'S'
        number answer, 42
        number module_init, 0
        returns module_shutdown
        returns up
        returns down
        .section .init_array, "aw"
        .quad up, up
        .section .fini_array, "aw"
        .quad down
        .data
        .globl counter, pointer, pointers
        .type counter, %object
counter: .quad 7
        .size counter, 8
        .type pointer, %object
pointer: .quad counter
        .size pointer, 8
pointers: .quad answer, pointer + 4
        .weak maybe
        .quad maybe, write
        .bss
        .globl zeroed
        .type zeroed, %object
zeroed: .zero 9000
        .size zeroed, 9000
        .section .note.GNU-stack, "", %progbits
S
cat > "$work/place.s" <<'S'
        .text
        function place
S
case $(uname -m) in
    x86_64) printf '        leaq answer_here(%%rip), %%rax\n' ;;
    aarch64) printf '        adr x0, answer_here\n' ;;
esac >> "$work/place.s"
cat >> "$work/place.s" <<'S'
        ret
        end place
answer_here:
        number here, 7
S
cat > "$work/asks.s" <<'S'
        .text
        asks ask_bsearch, bsearch
        asks ask_iterate, dl_iterate_phdr
        asks ask_object, _dl_find_object
        asks ask_name, dladdr
        asks ask_symbol, dlsym
S
cat > "$work/variables.s" <<'S'
        .text
        variable first, mine
        variable second, zeros
        .section .tdata, "awT", %progbits
        .globl mine, zeros
        .type mine, %object
        .type zeros, %object
mine:   .byte 1, 2, 3, 4, 5
        .size mine, 5
        .section .tbss, "awT", %nobits
        .balign 32
zeros:  .zero 40
        .size zeros, 40
S
cat > "$work/chosen.s" <<'S'
        .text
        .globl chosen
        .type chosen, %gnu_indirect_function
        .set chosen, place
        .data
        .quad chosen
S
cat > "$work/version.s" <<'S'
        .symver old, f@V1
        .symver new, f@@V2
        .text
        number old, 1
        number new, 2
S
cat > "$work/chosen_version.s" <<'S'
        .globl old
        .type old, %gnu_indirect_function
        .set old, place
        .symver old, f@V1
        .symver new, f@@V2
        .text
        number new, 2
S
cat > "$work/shared.s" <<'S'
        .text
        returns _Znwm
        .data
        .globl one_for_all
        .type one_for_all, %gnu_unique_object
one_for_all: .quad 5
        .size one_for_all, 8
        .weak environ
        .type environ, %object
environ: .quad 0
        .size environ, 8
        .quad one_for_all, environ, _Znwm
S
cat > "$work/said.c" <<'C'
#include "runtime_module.h"
RUNTIME_MODULE("known", "1.2")
C
machine=$(uname -m)
parts() {
    cat "$work/known.$machine.s"
    for part; do cat "$work/$part.s"; done
}
all="plain place"
[ "$machine" = aarch64 ] || all="plain place asks variables"
# shellcheck disable=SC2086
{
    parts $all > "$work/all.s"
    parts $all chosen > "$work/chosen_all.s"
    parts $all version > "$work/version_all.s"
    parts $all chosen_version > "$work/chosen_version_all.s"
    parts $all shared > "$work/shared_all.s"
    parts plain place > "$work/two.s"
    parts plain > "$work/one.s"
}
known() {
    name=$1
    shift
    module gcc "$runtime/$name.so" -nostdlib "$@"
}
known gnu "$work/all.s" -Wl,--hash-style=gnu -Wl,-soname,rich.so
known sysv "$work/all.s" -Wl,--hash-style=sysv
known both "$work/all.s" -Wl,--hash-style=both -Wl,-z,now -Wl,-z,relro -Wl,-init=up -Wl,-fini=down
known ended "$work/all.s" "$(gcc -print-file-name=crtendS.o)"
known libc "$work/all.s" -Wl,--no-as-needed -lc
known relr "$work/all.s" -Wl,-z,pack-relative-relocs
known small "$work/one.s" -Wl,--no-eh-frame-hdr
known chosen "$work/chosen_all.s"
known shared "$work/shared_all.s"
known version "$work/version_all.s" -Wl,--version-script="$work/versions.map"
known chosen-version "$work/chosen_version_all.s" -Wl,--version-script="$work/versions.map"
known said "$work/two.s" -I../include "$work/said.c" -Wl,--build-id=sha1
known wide "$work/two.s" -Wl,-z,max-page-size=65536
for source in all chosen_all two one; do
    gcc -c "$work/$source.s" -o "$runtime/$source.o"
done
sed 's/answer, 42/answer, 43/; s/9000/700/' "$work/all.s" > "$work/newer.s"
gcc -c "$work/newer.s" -o "$work/newer.o"
known newer "$work/newer.s"
separated_by() {
    separator=$1 first=$2 second=$3
    cat "$first" && printf '\n=%s=\n' "$separator" && cat "$second"
}
separated_by newer "$runtime/gnu.so" "$runtime/newer.so" > "$runtime/two-versions"
known other "$work/two.s" -Wl,-soname,other.so
printf '%s\n' '        asks ask_other, answer' '        .weak sin' > "$work/other.s"
if [ "$machine" = x86_64 ]; then
    { parts place other && sed 's/place/another/; s/here/there/' "$work/place.s"; } > "$work/caller.s"
    known caller "$work/caller.s" -Wl,--no-as-needed "$runtime/other.so" -Wl,-soname,caller.so
    separated_by newer "$runtime/other.so" "$runtime/caller.so" > "$runtime/two-modules"
    rm "$runtime/caller.so"
fi
separated_by newer "$runtime/all.o" "$work/newer.o" > "$runtime/two-versions-of-objects"
parts place > "$work/second.s"
gcc -c "$work/second.s" -o "$work/second.o"
separated_by next "$runtime/one.o" "$work/second.o" > "$runtime/two-objects"
ar rcD "$work/known.a" "$runtime/one.o" "$work/second.o"
cp "$work/known.a" "$runtime/two.a"
echo "$(ls "$runtime" | wc -l) seeds in fuzz/$runtime"

# One of each value that a journal reads back.
journal=corpus/journal
mkdir -p "$journal"
cargo run --quiet --manifest-path ../Cargo.toml --package midflight-journal --example seeds -- "$journal"
echo "$(ls "$journal" | wc -l) seeds in fuzz/$journal"

# The notes of a module, behind a byte that is their alignment.
notes=corpus/notes
mkdir -p "$notes"
cat > "$work/says.c" <<'C'
#include "runtime_module.h"
RUNTIME_MODULE("notes", "1.2.3")
RUNTIME_MODULE_NEEDS("other")
RUNTIME_MODULE_NEEDS_VERSION("third", ">=1.4, <3")
RUNTIME_MODULE_EXCLUSIVE("port 80")
MIDFLIGHT_STATE(long, kept, 3) = 4;
static int unused;
C
gcc -w -I../include -c "$work/says.c" -o "$work/says.o"
objcopy -O binary --only-section=.note.midflight --set-section-flags .note.midflight=alloc "$work/says.o" "$work/says.notes"
{ printf '\004' && cat "$work/says.notes"; } > "$notes/all"
echo "$(ls "$notes" | wc -l) seeds in fuzz/$notes"

# Layouts that the bytes make: two alike, and any.
migrate=corpus/migrate
mkdir -p "$migrate"
printf '\000\002\001\000\000\002\007\003\000\001\000\003\000\000\001\001\003\000\001\002\000\002\001\000\000\002\007\003\000\001' > "$migrate/two"
head -c 300 ../fuzz/seeds.sh > "$migrate/text"
{ printf '\001' && head -c 300 ../fuzz/seeds.sh; } > "$migrate/broken"
echo "$(ls "$migrate" | wc -l) seeds in fuzz/$migrate"
