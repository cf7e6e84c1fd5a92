// The border to processor and kernel: CPUID is an instruction, and the macros over processor sets are none of Swift's.
#ifndef KINSHIP_CMACHINE_H
#define KINSHIP_CMACHINE_H

#if defined(__x86_64__)
#include <cpuid.h>

// XCR0: which registers the operating system saves: XMM and YMM (bits 1, 2), opmask and ZMM (5, 6, 7), AMX's tiles (17,
// 18). 0 where it does not say.
static inline unsigned int kinship_saved_registers(void) {
  unsigned int a, b, c, d, low, high;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !((c >> 27) & 1)) return 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

// Which vector instructions processor and operating system offer together: 0 neither of the two below,
// 1 AVX2 and FMA, 2 AVX-512 F, DQ, BW and VL as well.
static inline int kinship_vector_level(void) {
  unsigned int a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
  int fma = (c >> 12) & 1, avx = (c >> 28) & 1;
  if (!fma || !avx) return 0;
  unsigned int saved = kinship_saved_registers();
  if ((saved & 0x06) != 0x06) return 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
  if (!((b >> 5) & 1)) return 0;
  unsigned int wanted = (1u << 16) | (1u << 17) | (1u << 30) | (1u << 31);
  return (saved & 0xe6) == 0xe6 && (b & wanted) == wanted ? 2 : 1;
}
#else
static inline int kinship_vector_level(void) { return 0; }
#endif

// What tells processors apart, and which products of bfloat16 processor and operating system offer together.
typedef struct {
  // The twelve letters of the vendor, four in each number, the first in the lowest byte; 0 where there is no CPUID.
  unsigned int vendor[3];
  int family;
  int model;
  int stepping;
  // AVX512_BF16, whose VDPBF16PS multiplies pairs and adds them up.
  int dot_products;
  // AMX-TILE and AMX-BF16.
  int amx;
} kinship_processor;

static inline kinship_processor kinship_identify_processor(void) {
  kinship_processor found = {{0, 0, 0}, 0, 0, 0, 0, 0};
#if defined(__x86_64__)
  unsigned int a, b, c, d;
  if (!__get_cpuid(0, &a, &b, &c, &d)) return found;
  found.vendor[0] = b;
  found.vendor[1] = d;
  found.vendor[2] = c;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return found;
  int family = (a >> 8) & 0xf;
  // The upper parts count where the lower ones say so.
  found.family = family == 0xf ? family + (int)((a >> 20) & 0xff) : family;
  found.model = (int)((a >> 4) & 0xf) + (family == 0xf || family == 6 ? (int)((a >> 12) & 0xf0) : 0);
  found.stepping = (int)(a & 0xf);
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return found;
  unsigned int saved = kinship_saved_registers();
  unsigned int amx = (1u << 22) | (1u << 24), tiles = (1u << 17) | (1u << 18);
  found.amx = (saved & tiles) == tiles && (d & amx) == amx;
  if (a >= 1 && (saved & 0xe6) == 0xe6 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) {
    found.dot_products = (a >> 5) & 1;
  }
#endif
  return found;
}

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
