// Put before the C library (LD_PRELOAD), shifts the wall clock of a process by as many seconds as the file says that
// USHER_TEST_CLOCK names. All other clocks stay. It calls the kernel itself, since it may be asked for the time before
// there is a way to look anything else up.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *time) {
  static int file = -2;
  long result = syscall(SYS_clock_gettime, clock, time);
  if (result != 0 || clock != CLOCK_REALTIME) return (int)result;
  if (file == -2) {
    const char *name = getenv("USHER_TEST_CLOCK");
    file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
  }
  char text[32] = {0};
  if (file >= 0 && pread(file, text, sizeof text - 1, 0) > 0) time->tv_sec += atol(text);
  return 0;
}
