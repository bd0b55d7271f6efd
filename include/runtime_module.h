/* What a module may say of itself. None of it is needed: any shared object, object file or archive
 * is a module.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 *     #include "runtime_module.h"
 *
 *     RUNTIME_MODULE("physics", "2.1.0")
 *     RUNTIME_MODULE_NEEDS("terrain")
 *     RUNTIME_MODULE_NEEDS_VERSION("sound", ">=1.4, <3")
 *
 *     int module_init(void) { return open_tables() ? 0 : -1; }
 *     void module_shutdown(void) { close_tables(); }
 *
 *     struct world { double time; int agents; };
 *     MIDFLIGHT_STATE(struct world, world, 1) = {.agents = 3};
 */
#ifndef MIDFLIGHT_RUNTIME_MODULE_H
#define MIDFLIGHT_RUNTIME_MODULE_H

#if defined __APPLE__
#define RUNTIME_MODULE_SECTION_ "__TEXT,__midflight,regular,no_dead_strip"
#elif defined __ELF__
#define RUNTIME_MODULE_SECTION_ ".note.midflight,\"a\",%note"
#else
#error "runtime_module.h: modules are ELF or Mach-O files: compile for Linux or macOS"
#endif

/* What these macros write: an ELF note (System V gABI, "Note Section") of the owner "midflight",
 * whose descriptor is a string that ends with a zero; in Mach-O files the same in a section of its
 * own. Types: 1 the module's name, 2 its version, 3 the name of a module that it needs, 4 a state:
 * its schema version, its size or 0 (twice 32 bits, the lower half first), its name; 16 the name of
 * a module and a range of versions, 17 a resource. They are at file scope, once or never in a
 * module, also if it is made of several files, and without a semicolon behind (but for
 * MIDFLIGHT_STATE); states and those of what it needs and of resources as often as need be. The
 * strings are literals in UTF-8, of
 * printable characters without quotes and backslashes. A note that is damaged, or of a type that
 * this midflight does not know, is refused with RUNTIME_ERROR_INVALID_MODULE. */
#define RUNTIME_MODULE_NOTE_(type, text)                                                                                       \
    __asm__(".pushsection " RUNTIME_MODULE_SECTION_ "\n"                                                                        \
            ".balign 4\n"                                                                                                      \
            ".long 772f - 771f, 774f - 773f, " type "\n"                                                                       \
            "771: .asciz \"midflight\"\n"                                                                                      \
            "772: .balign 4\n"                                                                                                 \
            "773: .asciz \"" text "\"\n"                                                                                       \
            "774: .balign 4\n"                                                                                                 \
            ".popsection\n");

/* The module's name, by which hot_reload_symbol() and others call it, whatever its file is called;
 * not empty. And its version, which the log shows: any text. */
#define RUNTIME_MODULE(name, version) RUNTIME_MODULE_NOTE_("1", name) RUNTIME_MODULE_NOTE_("2", version)

/* A module that must be loaded already, or with this one in one call (else:
 * RUNTIME_ERROR_UNRESOLVED). It is initialised first, shut down after this one, and cannot be
 * unloaded before it (RUNTIME_ERROR_IN_USE). Modules may need each other; then either may be
 * first. */
#define RUNTIME_MODULE_NEEDS(module) RUNTIME_MODULE_NOTE_("3", module)

/* The same, and which versions of it will do, as Cargo writes that: "1.4" is at least 1.4.0 and
 * below 2, "~1.4" below 1.5, ">=1.4, <3" as it says, "*" any. The other module says its version with
 * RUNTIME_MODULE, as 1.2.3 or shorter. Neither of the two can be loaded, as long as the version does
 * not do or cannot be told: RUNTIME_ERROR_CONFLICT. */
#define RUNTIME_MODULE_NEEDS_VERSION(module, range) RUNTIME_MODULE_NOTE_("16", module "\\000" range)

/* A resource that is this module's alone, under a name that its users agree upon ("audio device",
 * "port 4000"). Two modules that say so of one are a conflict: see conflict_resolution.h. Nothing
 * else is done with it. */
#define RUNTIME_MODULE_EXCLUSIVE(resource) RUNTIME_MODULE_NOTE_("17", resource)
/* A variable at file scope that outlives the versions of the module, as a definition, which may
 * have an initialiser:
 *
 *     MIDFLIGHT_STATE(struct world, world, 1) = {.agents = 3};
 *
 * Its memory is the runtime's. The first version that is loaded gives it its first value. A version
 * that replaces another, and declares it with the same schema version and the same size, has it at
 * the same address with what is in it: nothing is copied, no update is lost, and pointers to it and
 * into it stay good. It goes when the module is unloaded and the last of its versions is gone. Of a
 * version that has it in another layout, see module_migrate_state() below.
 *
 * - `type` is one word or several (`struct world`, `unsigned long`); of an array or a pointer to a
 *   function write a typedef. In C++ it can be copied and dropped without code (trivially), and its
 *   first value is a constant.
 * - `name` has C linkage: it is one for the module. Its other files say `extern type name;`.
 * - `schema` is a literal number, at least 0, or a macro for one. Count it up when the meaning of
 *   what is in there changes and its size does not, such as when two members change places.
 * - Pointers in it that lead to functions, constants or other variables of the module lead into the
 *   version that put them there: set them anew in module_init() or at the first call.
 * - module_init() of a new version sees the state while the old version goes on working with it:
 *   it must not reset it.
 *
 * Compile with -fPIC, and do not link with -Bsymbolic; link Mach-O object files to a dylib: a module
 * that refers to the variable in its own memory is refused. */
#define MIDFLIGHT_STATE(type, name, schema)                                                                                    \
    MIDFLIGHT_STATE_NOTE_(type, name, schema)                                                                                  \
    MIDFLIGHT_STATE_CHECK_(type, name)                                                                                         \
    MIDFLIGHT_STATE_C_ __attribute__((weak, visibility("default"))) type name;                                                 \
    static void *const midflight_state_of_##name __attribute__((used)) = (void *)&name;                                        \
    MIDFLIGHT_STATE_CONSTANT_ type name

#define MIDFLIGHT_STATE_TEXT_(text) #text
#define MIDFLIGHT_STATE_WORD_(text) MIDFLIGHT_STATE_TEXT_(text)

#if defined __APPLE__
/* Mach-O says of no symbol how large it is. */
#define MIDFLIGHT_STATE_NOTE_(type, name, schema)                                                                              \
    static const struct {                                                                                                      \
        unsigned owner_size, descriptor_size, kind;                                                                            \
        char owner[12];                                                                                                        \
        unsigned version, low, high;                                                                                           \
        char symbol[(sizeof #name + 3) / 4 * 4];                                                                               \
    } midflight_state_note_##name __attribute__((used, section(RUNTIME_MODULE_SECTION_))) = {                                  \
        10, 12 + (sizeof #name + 3) / 4 * 4, 4, "midflight", schema, (unsigned)sizeof(type),                                   \
        (unsigned)((unsigned long long)sizeof(type) >> 32), #name};
#else
#define MIDFLIGHT_STATE_NOTE_(type, name, schema)                                                                              \
    __asm__(".pushsection " RUNTIME_MODULE_SECTION_ "\n"                                                                       \
            ".balign 4\n"                                                                                                      \
            ".long 772f - 771f, 774f - 773f, 4\n"                                                                              \
            "771: .asciz \"midflight\"\n"                                                                                      \
            "772: .balign 4\n"                                                                                                 \
            "773: .long " MIDFLIGHT_STATE_WORD_(schema) ", 0, 0\n"                                                             \
            ".asciz \"" #name "\"\n"                                                                                           \
            "774: .balign 4\n"                                                                                                 \
            ".popsection\n");
#endif

#ifdef __cplusplus
#define MIDFLIGHT_STATE_CHECK_(type, name)                                                                                     \
    static_assert(__is_trivially_copyable(type), "a state is kept as bytes: " #name " needs code to be copied or dropped");
#define MIDFLIGHT_STATE_C_ extern "C"
#if defined __clang__
#define MIDFLIGHT_STATE_CONSTANT_ __attribute__((require_constant_initialization))
#else
#define MIDFLIGHT_STATE_CONSTANT_ __constinit
#endif
#else
#define MIDFLIGHT_STATE_CHECK_(type, name)
#define MIDFLIGHT_STATE_C_ extern
#define MIDFLIGHT_STATE_CONSTANT_
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Both are optional, and found by name: they have C linkage (in C++ by these declarations) and are
 * exported. They run on the thread that loads or collects, where the runtime is busy: its functions
 * return RUNTIME_ERROR_BUSY. An exception must not leave them: it ends the process. */

/* Called once for each version, after its constructors and before it is published. 0: go on;
 * anything else refuses the version: the reload fails with RUNTIME_ERROR_REFUSED, its destructors
 * run, the old version goes on serving. */
__attribute__((visibility("default"))) int module_init(void);

/* Called once for each version that module_init() accepted, or that has none: when nobody can be
 * inside it any more but threads that it started itself, before its destructors. It is the place to
 * join those. Versions that are loaded when the process ends are not shut down. */
__attribute__((visibility("default"))) void module_shutdown(void);

/* Makes a state (MIDFLIGHT_STATE) of what the version before has in another layout or with another
 * schema version. Called after module_init(), before the version is published, while nobody is
 * inside the module: calls of it wait meanwhile. `new_bytes` has the first value of the declaration.
 * `old_bytes` is not to be changed: the version before has it again if it comes back. 0: done;
 * anything else refuses the version with RUNTIME_ERROR_REFUSED.
 *
 * It is needed only where the runtime cannot do it: with debug information (-g) in both versions
 * members are carried over by name, moved and widened, and new ones have their first values. It is
 * asked first if the schema version is another one. */
__attribute__((visibility("default"))) int module_migrate_state(const char *state, const void *old_bytes,
                                                                __SIZE_TYPE__ old_size, unsigned old_schema,
                                                                void *new_bytes, __SIZE_TYPE__ new_size);

#ifdef __cplusplus
}
#endif

#endif
