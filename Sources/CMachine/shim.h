// The border to processor and kernel: CPUID is an instruction, and the macros over processor sets are none of Swift's.
#ifndef KINSHIP_CMACHINE_H
#define KINSHIP_CMACHINE_H

#if defined(__linux__)
#include <sys/syscall.h>

// unistd.h under other feature macros than Swift's own import of it would define fd_set twice.
extern long syscall(long number, ...);
#endif

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

// Loops of independent multiply-adds. Each instruction adds to a register of its own and reads nothing but registers,
// so that only the processor's units limit the rate. They are assembly because a compiler leaves out what nobody reads,
// and adds loads and stores where it does not optimize. Those of FMAs have the numbers of `kinship_vector_level`.
// `MultiplyAdds` has the same numbers.
enum {
  kinship_fmas_256 = 1,
  kinship_fmas_512 = 2,
  kinship_dot_products = 3,
  kinship_tiles = 4,
};

#if defined(__x86_64__)
#define KINSHIP_12 "0,1,2,3,4,5,6,7,8,9,10,11"
#define KINSHIP_24 KINSHIP_12 ",12,13,14,15,16,17,18,19,20,21,22,23"
// One line for each register of a list.
#define KINSHIP_EACH(list, line) ".irp r," list "\n\t" line "\n\t.endr\n\t"
// The registers of a list add up the products of two others, whose numbers of either width are not 0 or denormal.
#define KINSHIP_MULTIPLY_ADD(instruction, width, list, left, right, ...)                                             \
  do {                                                                                                               \
    unsigned int a = 0x3f9e3f5f, b = 0xbf5fbf9e;                                                                     \
    __asm__ volatile("vbroadcastss %1, %%" width left "\n\tvbroadcastss %2, %%" width right "\n\t"                   \
                     KINSHIP_EACH(list, "vmovaps %%" width left ", %%" width "\\r")                                  \
                     "1:\n\t"                                                                                        \
                     KINSHIP_EACH(list, instruction " %%" width left ", %%" width right ", %%" width "\\r")          \
                     "decq %0\n\tjnz 1b\n\tvzeroupper"                                                               \
                     : "+r"(rounds)                                                                                  \
                     : "m"(a), "m"(b)                                                                                \
                     : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",         \
                       "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", __VA_ARGS__);                                    \
  } while (0)
#define KINSHIP_MULTIPLY_ADD_512(instruction)                                                                        \
  KINSHIP_MULTIPLY_ADD(instruction, "zmm", KINSHIP_24, "30", "31", "xmm15", "xmm16", "xmm17", "xmm18", "xmm19",      \
                       "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", "xmm26", "xmm27", "xmm28", "xmm29",     \
                       "xmm30", "xmm31")

__attribute__((target("avx2,fma"))) static inline void kinship_add_256(long rounds) {
  KINSHIP_MULTIPLY_ADD("vfmadd231ps", "ymm", KINSHIP_12, "14", "15", "xmm15");
}

__attribute__((target("avx512f"))) static inline void kinship_add_512(long rounds) {
  KINSHIP_MULTIPLY_ADD_512("vfmadd231ps");
}

__attribute__((target("avx512f"))) static inline void kinship_add_dot_products(long rounds) {
  KINSHIP_MULTIPLY_ADD_512("vdpbf16ps");
}

// Six tiles of 16 × 16 numbers add up the products of two tiles of 16 × 32 in bfloat16. Returns 0 where Linux does not
// lend the tiles to this process, else 1. oneDNN's configuration of the tiles is put back.
static inline int kinship_add_tiles(long rounds) {
#if defined(__linux__)
  // ARCH_REQ_XCOMP_PERM of XTILEDATA.
  if (syscall(SYS_arch_prctl, 0x1023L, 18L) != 0) return 0;
  // Palette 1, and for each of eight tiles the bytes of a row (two bytes each, from 16) and the rows (from 48).
  unsigned char wanted[64] = {1}, saved[64];
  for (int tile = 0; tile < 8; tile++) {
    wanted[16 + 2 * tile] = 64;
    wanted[48 + tile] = 16;
  }
  unsigned int values[256];
  for (int i = 0; i < 256; i++) values[i] = 0x3f9e3f5f;
  __asm__ volatile("sttilecfg %1\n\tldtilecfg %2\n\t"
                   "tileloadd (%3,%4,1), %%tmm6\n\ttileloadd (%3,%4,1), %%tmm7\n\t"
                   KINSHIP_EACH("0,1,2,3,4,5", "tilezero %%tmm\\r")
                   "1:\n\t"
                   KINSHIP_EACH("0,1,2,3,4,5", "tdpbf16ps %%tmm7, %%tmm6, %%tmm\\r")
                   "decq %0\n\tjnz 1b\n\tldtilecfg %1"
                   : "+r"(rounds), "+m"(saved)
                   : "m"(wanted), "r"(values), "r"(64L)
                   : "cc", "memory");
  return 1;
#else
  (void)rounds;
  return 0;
#endif
}
#endif

// Runs a loop, which processor and operating system must offer. Returns the floating-point operations, two for each
// multiply-add; 0 where there is no such loop.
static inline double kinship_multiply_add(int loop, long rounds) {
#if defined(__x86_64__)
  switch (loop) {
    case kinship_fmas_256: kinship_add_256(rounds); return 2.0 * 12 * 8 * (double)rounds;
    case kinship_fmas_512: kinship_add_512(rounds); return 2.0 * 24 * 16 * (double)rounds;
    case kinship_dot_products: kinship_add_dot_products(rounds); return 2.0 * 24 * 32 * (double)rounds;
    case kinship_tiles: return kinship_add_tiles(rounds) ? 2.0 * 6 * 16 * 16 * 32 * (double)rounds : 0;
  }
#endif
  (void)loop;
  (void)rounds;
  return 0;
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
