// The border to processor and kernel: CPUID is an instruction, and the macros over processor sets are none of Swift's.
#ifndef KINSHIP_CMACHINE_H
#define KINSHIP_CMACHINE_H

#if defined(__x86_64__)
#include <cpuid.h>

// Which vector instructions processor and operating system offer together: 0 neither of the two below,
// 1 AVX2 and FMA, 2 AVX-512 F, DQ, BW and VL as well.
static inline int kinship_vector_level(void) {
  unsigned int a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
  int fma = (c >> 12) & 1, osxsave = (c >> 27) & 1, avx = (c >> 28) & 1;
  if (!fma || !osxsave || !avx) return 0;
  // XCR0: the operating system saves XMM and YMM (bits 1, 2), opmask and ZMM (5, 6, 7).
  unsigned int low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  if ((low & 0x06) != 0x06) return 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
  if (!((b >> 5) & 1)) return 0;
  unsigned int wanted = (1u << 16) | (1u << 17) | (1u << 30) | (1u << 31);
  return (low & 0xe6) == 0xe6 && (b & wanted) == wanted ? 2 : 1;
}
#else
static inline int kinship_vector_level(void) { return 0; }
#endif

// The level of `kinship_vector_level` that this binary was compiled for, or -1 where levels mean nothing.
static inline int kinship_built_level(void) {
#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512BW__) && defined(__AVX512VL__)
  return 2;
#elif defined(__AVX2__) && defined(__FMA__)
  return 1;
#elif defined(__x86_64__)
  return 0;
#else
  return -1;
#endif
}

#if defined(__linux__)
#include <sys/syscall.h>

// unistd.h under other feature macros than Swift's own import of it would define fd_set twice.
extern long syscall(long number, ...);

// Writes the logical processors that this process may run on, in order; returns how many there are (at most
// `capacity` are written), or -1.
static inline int kinship_bound_processors(int *processors, int capacity) {
  // The system call, not glibc's function: its processor set is as large as the kernel's, on any machine.
  unsigned long words[1024];
  long bytes = syscall(SYS_sched_getaffinity, 0, sizeof words, words);
  if (bytes < 0) return -1;
  int count = 0;
  int width = 8 * (int)sizeof(unsigned long);
  for (long i = 0; i < bytes * 8; i++) {
    if (!((words[i / width] >> (i % width)) & 1)) continue;
    if (count < capacity) processors[count] = (int)i;
    count++;
  }
  return count;
}
#else
static inline int kinship_bound_processors(int *processors, int capacity) {
  (void)processors;
  (void)capacity;
  return -1;
}
#endif

#endif
