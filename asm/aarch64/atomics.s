// What gcc calls for its `__sync` builtins (GCC PR target/105162): the operation with acquire and release, and a barrier
// behind it, so that nothing that follows is seen before it. Of acquire and release alone that is not promised: without LSE
// they are a loop of LDAXR and STLXR, and a later load may be satisfied before the STLXR is. libgcc has the barrier in the same place.
    .text
    .macro midflight_synchronised name
    midflight_begin midflight_\name\()_sync
    midflight_enter 16
    bl __aarch64_\name\()_acq_rel
    dmb ish
    midflight_leave 16
    ret
    midflight_end midflight_\name\()_sync
    .endm

    .irp size, 1, 2, 4, 8
    midflight_synchronised cas\size
    midflight_synchronised swp\size
    midflight_synchronised ldadd\size
    midflight_synchronised ldclr\size
    midflight_synchronised ldeor\size
    midflight_synchronised ldset\size
    .endr
    midflight_synchronised cas16
