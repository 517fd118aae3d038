/* Records what a process does to one file system, so that a power loss at any moment can be played afterwards.
 *
 * Preloaded into a program (LD_PRELOAD), silent until powerloss_start() names the directory and the log. From then on
 * every call that changes the file system of that directory is appended to the log with the bytes it wrote, under one
 * lock that is held over the call itself: the log's order is the order of effects, and an fsync in the log covers
 * exactly what stands before it. tests/crash/disklog.py reads the log.
 *
 * A record: { uint32 kind, uint32 path length, uint64 inode, int64 offset, int64 length, uint64 extra } then the paths
 * (NUL between old and new), then the bytes of a write. What this file does not understand (a shared writable mapping,
 * copy_file_range) is recorded as UNKNOWN, which the reader refuses: nothing can be missed silently.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITE = 1, TRUNCATE, ALLOCATE, PUNCH, SYNC, SYNC_DIRECTORY, CREATE, MKDIR, RENAME, UNLINK, RMDIR, MARK, UNKNOWN };

struct record {
    uint32_t kind, path_length;
    uint64_t inode;
    int64_t offset, length;
    uint64_t extra;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -1;
static dev_t device;

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) {
        fprintf(stderr, "powerloss: no %s in the C library\n", name);
        abort();
    }
    return found;
}

static void all(const void *data, size_t length)
{
    const char *at = data;
    while (length) {
        ssize_t done = REAL(write)(log_fd, at, length);
        if (done < 0)
            abort();
        at += done;
        length -= (size_t)done;
    }
}

static void note(uint32_t kind, uint64_t inode, int64_t offset, int64_t length, uint64_t extra, const char *path,
                 size_t path_length, const struct iovec *bytes, int count)
{
    struct record record = {kind, (uint32_t)path_length, inode, offset, length, extra};
    int saved = errno;
    all(&record, sizeof record);
    if (path_length)
        all(path, path_length);
    int64_t left = length;
    for (int i = 0; i < count && left > 0; i++) {
        size_t piece = bytes[i].iov_len < (size_t)left ? bytes[i].iov_len : (size_t)left;
        all(bytes[i].iov_base, piece);
        left -= (int64_t)piece;
    }
    errno = saved;
}

/* The file behind a descriptor, if it is on the recorded file system. */
static int ours(int fd, struct stat *status)
{
    int saved = errno;
    int yes = log_fd >= 0 && fstat(fd, status) == 0 && status->st_dev == device &&
              (S_ISREG(status->st_mode) || S_ISDIR(status->st_mode));
    errno = saved;
    return yes;
}

/* The absolute path of a name in a directory, if its file system is recorded. */
static int our_path(int directory, const char *path, char *out)
{
    char where[64], base[4096];
    struct stat status;
    int saved = errno, yes = 0;
    if (log_fd < 0)
        return 0;
    if (path[0] == '/')
        snprintf(out, 4096, "%s", path);
    else {
        ssize_t got;
        if (directory == AT_FDCWD)
            snprintf(where, sizeof where, "/proc/self/cwd");
        else
            snprintf(where, sizeof where, "/proc/self/fd/%d", directory);
        got = readlink(where, base, sizeof base - 1);
        if (got < 0)
            abort();
        base[got] = 0;
        snprintf(out, 4096, "%.2000s/%.2000s", base, path);
    }
    snprintf(base, sizeof base, "%s", out);
    char *slash = strrchr(base, '/');
    if (slash && slash != base)
        *slash = 0;
    yes = stat(base, &status) == 0 && status.st_dev == device;
    errno = saved;
    return yes;
}

void powerloss_start(const char *directory, const char *log)
{
    struct stat status;
    if (stat(directory, &status) != 0)
        abort();
    device = status.st_dev;
    log_fd = REAL(open64)(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log_fd < 0)
        abort();
}

void powerloss_mark(const char *text)
{
    if (log_fd < 0)
        return;
    pthread_mutex_lock(&mutex);
    note(MARK, 0, 0, 0, 0, text, strlen(text), NULL, 0);
    pthread_mutex_unlock(&mutex);
}

/* ------------------------------------------------------------------ names */

static int opened(int directory, const char *path, int flags, mode_t mode)
{
    char full[4096];
    struct stat status;
    if (!our_path(directory, path, full))
        return REAL(openat64)(directory, path, flags, mode);
    pthread_mutex_lock(&mutex);
    int existed = lstat(full, &status) == 0;
    int fd = REAL(openat64)(directory, path, flags, mode);
    if (fd >= 0 && fstat(fd, &status) == 0 && S_ISREG(status.st_mode)) {
        if (!existed)
            note(CREATE, status.st_ino, 0, 0, status.st_mode & 07777, full, strlen(full), NULL, 0);
        else if (flags & O_TRUNC)
            note(TRUNCATE, status.st_ino, 0, 0, 0, NULL, 0, NULL, 0);
    }
    pthread_mutex_unlock(&mutex);
    return fd;
}

static mode_t mode_of(int flags, va_list arguments)
{
    return (flags & (O_CREAT | O_TMPFILE)) ? va_arg(arguments, mode_t) : 0;
}

#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...)                                                                         \
    {                                                                                                                  \
        va_list arguments;                                                                                             \
        va_start(arguments, flags);                                                                                    \
        mode_t mode = mode_of(flags, arguments);                                                                       \
        va_end(arguments);                                                                                             \
        return opened(AT_FDCWD, path, flags, mode);                                                                    \
    }
#define OPENAT(name)                                                                                                   \
    int name(int directory, const char *path, int flags, ...)                                                          \
    {                                                                                                                  \
        va_list arguments;                                                                                             \
        va_start(arguments, flags);                                                                                    \
        mode_t mode = mode_of(flags, arguments);                                                                       \
        va_end(arguments);                                                                                             \
        return opened(directory, path, flags, mode);                                                                   \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

int mkdirat(int directory, const char *path, mode_t mode)
{
    char full[4096];
    struct stat status;
    if (!our_path(directory, path, full))
        return REAL(mkdirat)(directory, path, mode);
    pthread_mutex_lock(&mutex);
    int result = REAL(mkdirat)(directory, path, mode);
    if (result == 0 && stat(full, &status) == 0)
        note(MKDIR, status.st_ino, 0, 0, mode, full, strlen(full), NULL, 0);
    pthread_mutex_unlock(&mutex);
    return result;
}

int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

static int removed(int directory, const char *path, int flags)
{
    char full[4096];
    if (!our_path(directory, path, full))
        return REAL(unlinkat)(directory, path, flags);
    pthread_mutex_lock(&mutex);
    int result = REAL(unlinkat)(directory, path, flags);
    if (result == 0)
        note(flags & AT_REMOVEDIR ? RMDIR : UNLINK, 0, 0, 0, 0, full, strlen(full), NULL, 0);
    pthread_mutex_unlock(&mutex);
    return result;
}

int unlinkat(int directory, const char *path, int flags) { return removed(directory, path, flags); }
int unlink(const char *path) { return removed(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return removed(AT_FDCWD, path, AT_REMOVEDIR); }

static int renamed(int old_directory, const char *old, int new_directory, const char *new, unsigned flags)
{
    char full[8192], target[4096];
    int from = our_path(old_directory, old, full), to = our_path(new_directory, new, target);
    if (!from && !to)
        return REAL(renameat2)(old_directory, old, new_directory, new, flags);
    pthread_mutex_lock(&mutex);
    int result = REAL(renameat2)(old_directory, old, new_directory, new, flags);
    if (result == 0) {
        size_t length = strlen(full) + 1;
        strcpy(full + length, target);
        note(from && to && !flags ? RENAME : UNKNOWN, 0, 0, 0, 0, full, length + strlen(target), NULL, 0);
    }
    pthread_mutex_unlock(&mutex);
    return result;
}

int rename(const char *old, const char *new) { return renamed(AT_FDCWD, old, AT_FDCWD, new, 0); }
int renameat(int od, const char *old, int nd, const char *new) { return renamed(od, old, nd, new, 0); }
int renameat2(int od, const char *old, int nd, const char *new, unsigned flags) { return renamed(od, old, nd, new, flags); }

/* ------------------------------------------------------------------ bytes */

static ssize_t written(int fd, const struct iovec *bytes, int count, off64_t offset, int flags)
{
    struct stat status;
    if (!ours(fd, &status))
        return flags ? REAL(pwritev2)(fd, bytes, count, offset, flags)
                     : (offset < 0 ? REAL(writev)(fd, bytes, count) : REAL(pwritev64)(fd, bytes, count, offset));
    pthread_mutex_lock(&mutex);
    int mode = fcntl(fd, F_GETFL);
    int64_t at = offset;
    if (offset < 0) {
        at = lseek64(fd, 0, (mode & O_APPEND) ? SEEK_END : SEEK_CUR);
        if (at < 0)
            abort();
    }
    ssize_t done = offset < 0 ? REAL(writev)(fd, bytes, count) : REAL(pwritev2)(fd, bytes, count, offset, flags);
    if (done > 0)
        note(WRITE, status.st_ino, at, done, (mode & O_DSYNC) != 0, NULL, 0, bytes, count);
    pthread_mutex_unlock(&mutex);
    return done;
}

static ssize_t one(int fd, const void *data, size_t length, off64_t offset)
{
    struct stat status;
    if (!ours(fd, &status))
        return offset < 0 ? REAL(write)(fd, data, length) : REAL(pwrite64)(fd, data, length, offset);
    struct iovec bytes = {(void *)data, length};
    return written(fd, &bytes, 1, offset, 0);
}

ssize_t write(int fd, const void *data, size_t length) { return one(fd, data, length, -1); }
ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) { return one(fd, data, length, offset); }
ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset) { return one(fd, data, length, offset); }
ssize_t writev(int fd, const struct iovec *v, int n) { return written(fd, v, n, -1, 0); }
ssize_t pwritev(int fd, const struct iovec *v, int n, off_t offset) { return written(fd, v, n, offset, 0); }
ssize_t pwritev64(int fd, const struct iovec *v, int n, off64_t offset) { return written(fd, v, n, offset, 0); }
ssize_t pwritev2(int fd, const struct iovec *v, int n, off_t o, int f) { return written(fd, v, n, o, f); }
ssize_t pwritev64v2(int fd, const struct iovec *v, int n, off64_t o, int f) { return written(fd, v, n, o, f); }

static int cut(int fd, off64_t length)
{
    struct stat status;
    if (!ours(fd, &status))
        return REAL(ftruncate64)(fd, length);
    pthread_mutex_lock(&mutex);
    int result = REAL(ftruncate64)(fd, length);
    if (result == 0)
        note(TRUNCATE, status.st_ino, length, 0, 0, NULL, 0, NULL, 0);
    pthread_mutex_unlock(&mutex);
    return result;
}

int ftruncate(int fd, off_t length) { return cut(fd, length); }
int ftruncate64(int fd, off64_t length) { return cut(fd, length); }

static int cut_path(const char *path, off64_t length)
{
    int fd = opened(AT_FDCWD, path, O_WRONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    int result = cut(fd, length);
    close(fd);
    return result;
}

int truncate(const char *path, off_t length) { return cut_path(path, length); }
int truncate64(const char *path, off64_t length) { return cut_path(path, length); }

static int allocated(int fd, int mode, off64_t offset, off64_t length)
{
    struct stat status;
    if (!ours(fd, &status))
        return REAL(fallocate64)(fd, mode, offset, length);
    pthread_mutex_lock(&mutex);
    int result = REAL(fallocate64)(fd, mode, offset, length);
    if (result == 0) {
        uint32_t kind = UNKNOWN;
        if (mode == 0)
            kind = ALLOCATE;
        else if (mode == (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE))
            kind = PUNCH;
        note(kind, status.st_ino, offset, 0, (uint64_t)length, NULL, 0, NULL, 0);
    }
    pthread_mutex_unlock(&mutex);
    return result;
}

int fallocate(int fd, int mode, off_t offset, off_t length) { return allocated(fd, mode, offset, length); }
int fallocate64(int fd, int mode, off64_t offset, off64_t length) { return allocated(fd, mode, offset, length); }

static int promised(int fd, off64_t offset, off64_t length) { return allocated(fd, 0, offset, length) ? errno : 0; }

int posix_fallocate(int fd, off_t offset, off_t length) { return promised(fd, offset, length); }
int posix_fallocate64(int fd, off64_t offset, off64_t length) { return promised(fd, offset, length); }

/* ------------------------------------------------------------------ durability */

static int synced(int fd, int data_only)
{
    struct stat status;
    if (!ours(fd, &status))
        return data_only ? REAL(fdatasync)(fd) : REAL(fsync)(fd);
    pthread_mutex_lock(&mutex);
    int result = data_only ? REAL(fdatasync)(fd) : REAL(fsync)(fd);
    if (result == 0)
        note(S_ISDIR(status.st_mode) ? SYNC_DIRECTORY : SYNC, status.st_ino, 0, 0, 0, NULL, 0, NULL, 0);
    pthread_mutex_unlock(&mutex);
    return result;
}

int fsync(int fd) { return synced(fd, 0); }
int fdatasync(int fd) { return synced(fd, 1); }

/* ------------------------------------------------------------------ what nobody may do unseen */

static void unknown(int fd, const char *what)
{
    struct stat status;
    if (!ours(fd, &status))
        return;
    pthread_mutex_lock(&mutex);
    note(UNKNOWN, status.st_ino, 0, 0, 0, what, strlen(what), NULL, 0);
    pthread_mutex_unlock(&mutex);
}

void *mmap64(void *at, size_t length, int protection, int flags, int fd, off64_t offset)
{
    if (fd >= 0 && (flags & MAP_TYPE) != MAP_PRIVATE && (protection & PROT_WRITE))
        unknown(fd, "mmap");
    return ((void *(*)(void *, size_t, int, int, int, off64_t))real("mmap64"))(at, length, protection, flags, fd, offset);
}

void *mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset)
{
    return mmap64(at, length, protection, flags, fd, offset);
}

ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t length, unsigned flags)
{
    unknown(out, "copy_file_range");
    return REAL(copy_file_range)(in, from, out, to, length, flags);
}

int linkat(int od, const char *old, int nd, const char *new, int flags)
{
    char full[4096];
    if (our_path(nd, new, full))
        abort();
    return REAL(linkat)(od, old, nd, new, flags);
}
