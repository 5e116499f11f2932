/* For LD_PRELOAD: one read or write of the program's does half of what it was asked to, as the kernel may at any time.
 *
 *     SHORT=CALL:N      the Nth CALL (from 1), of read, pread, write; 0: every one
 *     SHORT_UNDER=DIR   only on files in this directory
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *call = "", *under = "/";
static long nth;
static atomic_long count;

__attribute__((constructor)) static void begin(void) {
    static char name[16];
    const char *wanted = getenv("SHORT"), *directory = getenv("SHORT_UNDER");
    if (directory) under = directory;
    if (wanted && sscanf(wanted, "%15[^:]:%ld", name, &nth) == 2) call = name;
}

/* How much of `n` bytes to do. */
static size_t share(const char *name, int fd, size_t n) {
    char link[64], path[4096];
    if (strcmp(name, call) || n < 2) return n;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, sizeof path - 1);
    if (len < 0) return n;
    path[len] = 0;
    if (strncmp(path, under, strlen(under))) return n;
    long now = atomic_fetch_add(&count, 1) + 1;
    return nth == 0 || now == nth ? n / 2 : n;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t read(int fd, void *to, size_t n) { return NEXT(read)(fd, to, share("read", fd, n)); }
ssize_t write(int fd, const void *from, size_t n) { return NEXT(write)(fd, from, share("write", fd, n)); }
ssize_t pread64(int fd, void *to, size_t n, off64_t at) { return NEXT(pread64)(fd, to, share("pread", fd, n), at); }
