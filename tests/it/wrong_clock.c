/* A wall clock that is WALL_CLOCK_SHIFT seconds off, for the processes that preload it. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t id, struct timespec *to)
{
    const char *shift = getenv("WALL_CLOCK_SHIFT");
    long failed = syscall(SYS_clock_gettime, id, to);
    if (!failed && shift && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
        to->tv_sec += atol(shift);
    return (int)failed;
}
