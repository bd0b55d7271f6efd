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
 * State that is handed from one version to the next comes with a later version of this header.
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
 * own. Types: 1 the module's name, 2 its version, 3 the name of a module that it needs, 16 such a
 * name and a range of versions, 17 a resource. They are at file scope, once or never in a module,
 * also if it is made of several files, and without a semicolon behind; those of what it needs and
 * of resources as often as need be. The strings are literals in UTF-8, of
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

#ifdef __cplusplus
}
#endif

#endif
