// The border to the kernel's process descriptors, which are not in Swift's import of the C library.
#ifndef KINSHIP_CPROCESS_H
#define KINSHIP_CPROCESS_H

#if defined(__linux__)
#include <sys/syscall.h>

// unistd.h under other feature macros than Swift's own import of it would define fd_set twice.
extern long syscall(long number, ...);

// Returns a descriptor of a process, which need not be a child of ours. It becomes readable when the process has
// ended, whether or not its parent has waited for it. Returns -1 and sets errno where the process is gone (ESRCH) or
// the system refuses.
static inline int kinship_process_descriptor(int process) {
  return (int)syscall(SYS_pidfd_open, process, 0);
}
#else
static inline int kinship_process_descriptor(int process) {
  (void)process;
  return -1;
}
#endif

#endif
