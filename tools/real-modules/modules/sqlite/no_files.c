/* The system as SQLite sees it where it is a Mach-O module on Linux: no files, since their functions (stat, fcntl's locks, mmap) take structures and
 * numbers that Apple has otherwise than Linux. Databases are in memory. For SQLITE_OS_OTHER, and without threads. */
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include <sqlite3.h>

static int open_file(sqlite3_vfs *vfs, sqlite3_filename name, sqlite3_file *file, int flags, int *flags_out) {
    (void)vfs, (void)name, (void)flags, (void)flags_out;
    file->pMethods = 0;
    return SQLITE_CANTOPEN;
}

static int delete_file(sqlite3_vfs *vfs, const char *name, int sync_folder) {
    (void)vfs, (void)name, (void)sync_folder;
    return SQLITE_IOERR_DELETE_NOENT;
}

static int access_file(sqlite3_vfs *vfs, const char *name, int what, int *may) {
    (void)vfs, (void)name, (void)what;
    *may = 0;
    return SQLITE_OK;
}

static int full_name(sqlite3_vfs *vfs, const char *name, int room, char *full) {
    (void)vfs;
    size_t length = strlen(name) + 1;
    if (length > (size_t)room) return SQLITE_CANTOPEN;
    memcpy(full, name, length);
    return SQLITE_OK;
}

static int randomness(sqlite3_vfs *vfs, int count, char *bytes) {
    (void)vfs;
    /* At most so many at once. */
    if (count > 256) count = 256;
    return getentropy(bytes, (size_t)count) == 0 ? count : 0;
}

static int wait(sqlite3_vfs *vfs, int microseconds) {
    (void)vfs;
    usleep((useconds_t)microseconds);
    return microseconds;
}

/* Milliseconds since noon of the 24th of November, 4714 BC. */
static int now(sqlite3_vfs *vfs, sqlite3_int64 *milliseconds) {
    (void)vfs;
    *milliseconds = (sqlite3_int64)time(0) * 1000 + 210866760000000;
    return SQLITE_OK;
}

static int now_in_days(sqlite3_vfs *vfs, double *days) {
    sqlite3_int64 milliseconds;
    int status = now(vfs, &milliseconds);
    *days = (double)milliseconds / 86400000;
    return status;
}

static int last_error(sqlite3_vfs *vfs, int room, char *text) {
    (void)vfs, (void)room, (void)text;
    return 0;
}

int sqlite3_os_init(void) {
    static sqlite3_vfs vfs = {
        .iVersion = 2,
        .szOsFile = sizeof(sqlite3_file),
        .mxPathname = 512,
        .zName = "no files",
        .xOpen = open_file,
        .xDelete = delete_file,
        .xAccess = access_file,
        .xFullPathname = full_name,
        .xRandomness = randomness,
        .xSleep = wait,
        .xCurrentTime = now_in_days,
        .xGetLastError = last_error,
        .xCurrentTimeInt64 = now,
    };
    return sqlite3_vfs_register(&vfs, 1);
}

int sqlite3_os_end(void) { return SQLITE_OK; }
