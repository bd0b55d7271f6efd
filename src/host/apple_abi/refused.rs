//! Functions of the C library that would go wrong when code for Apple's platforms calls them, by
//! why.
//!
//! Lists cannot be whole: of other libraries, and of the host itself, only their authors know.

const VARIADIC: &str = "takes a variable number of arguments, which code for Apple's platforms passes in another way than Linux takes \
                        them: give the module a function of the host's with a fixed number of arguments";
const LAYOUT: &str = "takes an object that has another size or layout on Apple's platforms than on Linux: give the module a function of the \
                      host's in its place";
const LOCK: &str = "takes an object of pthreads that has another layout and other initial values on Apple's platforms than on Linux: use \
                    atomics, or give the module functions of the host's in its place";
const NUMBERS: &str = "takes numbers (flags, commands, options) that are others on Apple's platforms than on Linux: give the module a \
                       function of the host's in its place";
const STREAM: &str = "is how Apple's macros reach into a FILE, which Linux has not: use the functions that lock (getc, putc, feof), not the \
                      `_unlocked` ones";
const SIGNATURE: &str = "takes its arguments in another order or number than Linux's function of that name: give the module a function of the host's in its \
                         place";
const LONG_DOUBLE: &str =
    "has a `long double` where Linux's has no function of the same type with a `double`: compute in `double`";

const LIBCXX: &str =
    "is of libc++ (std::__1), whose types are others on Linux: link the module with a static libc++";

/// Reasons, and the names that each is for.
const REFUSED: [(&str, &str); 7] = [
    (
        VARIADIC,
        "\
         execl execle execlp ioctl syscall semctl sem_open shm_open mq_open strfmon strfmon_l ulimit makecontext \
         prctl ptrace printf_l vprintf_l fprintf_l vfprintf_l sprintf_l vsprintf_l snprintf_l vsnprintf_l \
         asprintf_l vasprintf_l scanf_l vscanf_l fscanf_l vfscanf_l sscanf_l vsscanf_l errc verrc warnc vwarnc \
         error error_at_line __printf_chk __fprintf_chk __dprintf_chk __asprintf_chk __vprintf_chk __vfprintf_chk \
         __vdprintf_chk __vasprintf_chk __swprintf_chk __vswprintf_chk obstack_printf obstack_vprintf argp_error \
         argp_failure dlfunc clone mremap open64 openat64 fcntl64",
    ),
    (
        LAYOUT,
        "\
         stat lstat fstat fstatat statfs fstatfs statvfs fstatvfs readdir readdir_r scandir alphasort glob \
         globfree fts_open fts_read ftw nftw sigaction sigprocmask pthread_sigmask sigemptyset sigfillset \
         sigaddset sigdelset sigismember sigpending sigsuspend sigwait sigaltstack sigsetjmp siglongjmp select \
         select$1050 select$DARWIN_EXTSN pselect pselect$DARWIN_EXTSN setitimer getitimer utimes futimes lutimes \
         adjtime settimeofday bind connect accept getsockname getpeername sendto recvfrom sendmsg recvmsg \
         getaddrinfo freeaddrinfo getnameinfo getifaddrs freeifaddrs tcgetattr tcsetattr cfmakeraw cfsetspeed \
         cfsetispeed cfsetospeed uname getpwnam getpwuid getpwnam_r getpwuid_r getpwent regcomp regexec regerror \
         regfree wordexp wordfree getutxent posix_spawn posix_spawnp semop shmctl msgctl getmntinfo fgetpos \
         fsetpos fegetexceptflag fesetexceptflag waitid wctype iswctype wctrans towctrans wctype_l iswctype_l \
         aio_read aio_write aio_error aio_return aio_suspend aio_cancel aio_fsync lio_listio getcontext \
         setcontext swapcontext posix_spawn_file_actions_init posix_spawnattr_init ntp_adjtime openpty \
         forkpty getdirentries pututxline getutxid getutxline strtod_l strtof_l strtol_l strtoll_l strtoul_l \
         strtoull_l gethostbyname2 gethostbyaddr quotactl",
    ),
    (
        LOCK,
        "\
         pthread_mutex_init pthread_mutex_destroy pthread_mutex_lock pthread_mutex_trylock pthread_mutex_unlock \
         pthread_mutexattr_init pthread_mutexattr_destroy pthread_mutexattr_settype pthread_mutexattr_setpshared \
         pthread_cond_init pthread_cond_destroy pthread_cond_wait pthread_cond_timedwait pthread_cond_signal \
         pthread_cond_broadcast pthread_rwlock_init pthread_rwlock_destroy pthread_rwlock_rdlock \
         pthread_rwlock_wrlock pthread_rwlock_tryrdlock pthread_rwlock_trywrlock pthread_rwlock_unlock \
         pthread_once pthread_attr_init pthread_attr_destroy pthread_attr_setdetachstate \
         pthread_attr_setstacksize sem_init sem_destroy sem_wait sem_trywait sem_post pthread_attr_setstack \
         pthread_attr_setscope pthread_attr_setinheritsched pthread_attr_setschedparam \
         pthread_attr_setschedpolicy pthread_attr_setguardsize pthread_attr_getstacksize \
         pthread_attr_getdetachstate pthread_condattr_init pthread_condattr_destroy pthread_condattr_setpshared \
         pthread_rwlockattr_init pthread_rwlockattr_destroy pthread_rwlockattr_setpshared \
         pthread_mutexattr_setprotocol pthread_mutexattr_gettype",
    ),
    (
        NUMBERS,
        "\
         sysconf pathconf fpathconf confstr mmap msync madvise clock_gettime clock_getres clock_settime socket \
         socketpair setsockopt getsockopt send recv getrlimit setrlimit signal raise kill killpg pthread_kill \
         nl_langinfo newlocale faccessat fchmodat fchownat linkat mkdirat mkfifoat readlinkat renameat symlinkat \
         unlinkat utimensat dlopen dlsym getpriority setpriority fnmatch inet_pton inet_ntop \
         pthread_setcancelstate pthread_setcanceltype pthread_setschedparam pthread_getschedparam \
         sched_setscheduler tcflush tcflow __fpclassifyf __fpclassifyd \
         mkostemp mkostemps sigset sighold sigrelse sigignore sigpause siginterrupt futimens \
         sched_get_priority_max sched_get_priority_min mknod mknodat",
    ),
    (
        STREAM,
        "\
         __srget __swbuf __svfscanf",
    ),
    (
        LONG_DOUBLE,
        "\
         nexttowardf strtold_l wcstold_l cabsl cacosl cacoshl cargl casinl casinhl catanl catanhl ccosl ccoshl \
         cexpl cimagl clogl conjl cpowl cprojl creall csinl csinhl csqrtl ctanl ctanhl \
         __fpclassifyl __isnanl __isinfl __isfinitel __isnormall __signbitl lgammal_r",
    ),
    (
        SIGNATURE,
        "\
         qsort_r pthread_setname_np \
         setxattr getxattr listxattr removexattr fsetxattr fgetxattr flistxattr fremovexattr sendfile mount \
         dirname",
    ),
];

/// Why a name is refused.
pub(super) fn find(name: &str) -> Option<&'static str> {
    if name.contains("St3__1") {
        return Some(LIBCXX);
    }
    let named = |(_, names): &&(&str, &str)| names.split_ascii_whitespace().any(|refused| refused == name);
    REFUSED.iter().find(named).map(|(reason, _)| *reason)
}
