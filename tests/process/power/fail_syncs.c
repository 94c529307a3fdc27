/*
 * Preloaded into the server: while there is a file named FAIL in its working directory, the log of the database is written and
 * cannot be synced.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int is_log(int file) {
    char link[64], path[4000];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    return length > 7 && !memcmp(path + length - 7, ".db-wal", 7);
}

int fdatasync(int file) {
    int (*real)(int) = (int (*)(int)) dlsym(RTLD_NEXT, "fdatasync");
    if (access("FAIL", F_OK) == 0 && is_log(file)) {
        errno = EIO;
        return -1;
    }
    return real(file);
}

int fsync(int file) { return fdatasync(file); }
