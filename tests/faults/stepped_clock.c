/* Sets the wall clock of one process off by as many seconds as the file that FAULT_CLOCK names says at this moment, and
 * leaves its monotonic clock alone. Build: cc -shared -fPIC -o stepped_clock.so stepped_clock.c -ldl; use: LD_PRELOAD.
 * (libfaketime 0.9.10 makes clock_nanosleep fail in Python, even with FAKETIME_DONT_FAKE_MONOTONIC.) */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static long offset_seconds(void)
{
    char text[32] = {0};
    const char *path = getenv("FAULT_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return 0;
    ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    return length > 0 ? atol(text) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int status = real(clock, now);
    if (status == 0 && clock == CLOCK_REALTIME)
        now->tv_sec += offset_seconds();
    return status;
}
