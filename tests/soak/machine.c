/* A machine in trouble, for one process: preloaded, it stands between a program and the system's calls.
 *
 *   nospace_after(k)   the k-th write to a regular file, and every later one, finds the disk full; -1: never
 *   writes_so_far()    how many there were
 *   clock_shift(s)     the wall clock goes s seconds wrong; the monotonic clock is left alone
 *   no_locks(1)        flock is not supported, as on some network file systems
 *
 * What native libraries write is counted as well, which nothing inside Python could do.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static long left = -1, writes = 0, shift = 0;
static int locks_refused = 0;

void nospace_after(long k) { __atomic_store_n(&left, k, __ATOMIC_SEQ_CST); __atomic_store_n(&writes, 0, __ATOMIC_SEQ_CST); }
long writes_so_far(void) { return writes; }
void clock_shift(long seconds) { shift = seconds; }
void no_locks(int yes) { locks_refused = yes; }

static int full(int fd) {
    struct stat about;
    if (fd <= 2 || fstat(fd, &about) || !S_ISREG(about.st_mode)) return 0;
    long number = __atomic_add_fetch(&writes, 1, __ATOMIC_SEQ_CST);
    if (left < 0 || number < left) return 0;
    errno = ENOSPC;
    return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *p, size_t n) { return full(fd) ? -1 : REAL(write)(fd, p, n); }
ssize_t pwrite(int fd, const void *p, size_t n, off_t at) { return full(fd) ? -1 : REAL(pwrite)(fd, p, n, at); }
ssize_t pwrite64(int fd, const void *p, size_t n, off64_t at) { return full(fd) ? -1 : REAL(pwrite64)(fd, p, n, at); }
ssize_t writev(int fd, const struct iovec *p, int n) { return full(fd) ? -1 : REAL(writev)(fd, p, n); }
ssize_t copy_file_range(int in, off64_t *a, int out, off64_t *b, size_t n, unsigned f) {
    return full(out) ? -1 : REAL(copy_file_range)(in, a, out, b, n, f);
}
ssize_t sendfile64(int out, int in, off64_t *at, size_t n);
ssize_t sendfile64(int out, int in, off64_t *at, size_t n) { return full(out) ? -1 : REAL(sendfile64)(out, in, at, n); }
ssize_t sendfile(int out, int in, off_t *at, size_t n);
ssize_t sendfile(int out, int in, off_t *at, size_t n) { return full(out) ? -1 : REAL(sendfile)(out, in, at, n); }

int flock(int fd, int kind) {
    if (locks_refused) { errno = ENOLCK; return -1; }
    return REAL(flock)(fd, kind);
}

int clock_gettime(clockid_t which, struct timespec *now) {
    int failed = REAL(clock_gettime)(which, now);
    if (!failed && which == CLOCK_REALTIME) now->tv_sec += shift;
    return failed;
}
time_t time(time_t *now) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    if (now) *now = t.tv_sec;
    return t.tv_sec;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    int failed = REAL(gettimeofday)(now, zone);
    if (!failed && now) now->tv_sec += shift;
    return failed;
}
