import Foundation

/// Counts the heap allocations above 4 KiB that a program makes between two lines of a run's log, by call site. It uses
/// a library that is loaded before the C library.
///
/// Allocations by the Swift runtime, Foundation and Dispatch are attributed to their callers. One rank writes the lines
/// of the log, and marks them by files for the other ranks.
public struct HeapCount: Sendable {
  /// A call site that has allocated memory.
  public struct Place: Sendable, CustomStringConvertible {
    /// True if the allocations were made between the two lines.
    public let isWithin: Bool
    public let count: Int
    public let bytes: Int
    /// The file name of the program or library that allocated.
    public let owner: String
    /// The functions of the call stack, innermost first. Those of a program are given by their offset in it.
    public let stack: [String]

    /// True for the tables of a type, which the Swift runtime makes once, where a type is first used, in slabs of
    /// 16 KiB: chance decides who needs the next slab.
    public var isForTypes: Bool {
      let makers = ["swift_getWitnessTable", "swift_getGenericMetadata", "swift_getTypeByMangledName"]
      return count == 1 && stack.contains { frame in makers.contains { frame.hasPrefix($0) } }
    }

    public var description: String {
      "\(count) times, \(bytes) bytes in all, by \(owner): \(stack.joined(separator: " < "))"
    }
  }

  private let folder: TemporaryFolder
  private var library: String { folder.path("libheap.so") }
  private var report: String { folder.path("report") }

  /// Compiles the library.
  public init() async throws {
    folder = try TemporaryFolder()
    let source = try folder.write("heap.c", Self.source.utf8)
    let compiler = try await MPIRun.execute([
      "clang", "-O1", "-shared", "-fPIC", "-o", folder.path("libheap.so"), source,
    ])
    guard compiler.status == 0 else { throw NotCompiled(description: compiler.errors) }
  }

  public struct NotCompiled: Error, CustomStringConvertible {
    public let description: String
  }

  /// Returns the environment variables for a program whose allocations are counted from the log line of step `first` to
  /// that of step `last`.
  public func environment(from first: Int, to last: Int) -> [String: String] {
    ["LD_PRELOAD": library, "HEAP_REPORT": report, "HEAP_FIRST": "\(first)", "HEAP_LAST": "\(last)"]
  }

  /// Returns the allocations of each process that has ended, with the name of its program.
  public func processes() throws -> [(program: String, places: [Place])] {
    let names = try FileManager.default.contentsOfDirectory(atPath: folder.url.path).filter {
      $0.hasPrefix("report.process.")
    }
    return try names.map { name in
      let lines = try String(contentsOfFile: folder.path(name), encoding: .utf8).split(separator: "\n")
      let places = lines.dropFirst().compactMap { line -> Place? in
        let words = line.split(separator: " ").map(String.init)
        guard words.count > 4, let count = Int(words[1]), let bytes = Int(words[2]) else { return nil }
        return Place(
          isWithin: words[0] == "within", count: count, bytes: bytes, owner: words[3], stack: Array(words[4...]))
      }
      return (String(lines.first ?? ""), places)
    }
  }

  private static let source = #"""
    #define _GNU_SOURCE
    #include <dlfcn.h>
    #include <errno.h>
    #include <execinfo.h>
    #include <fcntl.h>
    #include <pthread.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <string.h>
    #include <sys/syscall.h>
    #include <unistd.h>

    extern void *__libc_malloc(size_t);
    extern void *__libc_calloc(size_t, size_t);
    extern void *__libc_realloc(void *, size_t);
    extern void *__libc_memalign(size_t, size_t);

    enum { DEPTH = 48, PLACES = 8192, LARGE = 4096 };
    static struct {
      void *frames[DEPTH];
      int depth, within;
      long count;
      size_t bytes;
    } places[PLACES];
    static int used, ready, begun, ended;
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static __thread int inside;
    static char marks[2][4096];
    static char lines[2][64];

    static void note(size_t size) {
      if (size <= LARGE || !ready || inside) return;
      inside = 1;
      void *frames[DEPTH];
      int depth = backtrace(frames, DEPTH);
      pthread_mutex_lock(&lock);
      if (!begun) begun = !access(marks[0], F_OK);
      if (!ended) ended = !access(marks[1], F_OK);
      int within = begun && !ended, i = 0;
      while (i < used
             && (places[i].depth != depth || places[i].within != within
                 || memcmp(places[i].frames, frames, depth * sizeof *frames)))
        i++;
      if (i == used && used < PLACES) {
        memcpy(places[i].frames, frames, depth * sizeof *frames);
        places[i].depth = depth;
        places[i].within = within;
        used++;
      }
      if (i < used) {
        places[i].count++;
        places[i].bytes += size;
      }
      pthread_mutex_unlock(&lock);
      inside = 0;
    }

    void *malloc(size_t size) { note(size); return __libc_malloc(size); }
    void *calloc(size_t n, size_t size) { note(n * size); return __libc_calloc(n, size); }
    void *realloc(void *old, size_t size) { note(size); return __libc_realloc(old, size); }
    void *memalign(size_t alignment, size_t size) { note(size); return __libc_memalign(alignment, size); }
    void *aligned_alloc(size_t alignment, size_t size) { note(size); return __libc_memalign(alignment, size); }
    int posix_memalign(void **out, size_t alignment, size_t size) {
      note(size);
      void *block = __libc_memalign(alignment, size);
      if (!block) return ENOMEM;
      *out = block;
      return 0;
    }

    // The lines of the run's log mark the steps.
    ssize_t write(int file, const void *bytes, size_t count) {
      if (ready && memmem(bytes, count, "\"event\":\"step\"", 14))
        for (int i = 0; i < 2; i++)
          if (memmem(bytes, count, lines[i], strlen(lines[i]))) {
            int mark = open(marks[i], O_CREAT | O_WRONLY, 0600);
            if (mark >= 0) close(mark);
          }
      return syscall(SYS_write, file, bytes, count);
    }

    __attribute__((constructor)) static void begin(void) {
      const char *report = getenv("HEAP_REPORT"), *first = getenv("HEAP_FIRST"), *last = getenv("HEAP_LAST");
      if (!report || !first || !last) return;
      snprintf(marks[0], sizeof marks[0], "%s.first", report);
      snprintf(marks[1], sizeof marks[1], "%s.last", report);
      snprintf(lines[0], sizeof lines[0], "\"step\":%s,", first);
      snprintf(lines[1], sizeof lines[1], "\"step\":%s,", last);
      // The first backtrace loads the unwinder.
      void *frames[4];
      backtrace(frames, 4);
      ready = 1;
    }

    static const char *file_name(const char *path) {
      const char *slash = strrchr(path, '/');
      return slash ? slash + 1 : path;
    }

    // Allocations by these libraries are attributed to their callers.
    static int serves(const char *name) {
      static const char *const names[] = {
        "libheap", "libswift", "libFoundation", "lib_Foundation", "libdispatch", "libBlocksRuntime", "libstdc++"
      };
      for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strncmp(name, names[i], strlen(names[i]))) return 1;
      return 0;
    }

    __attribute__((destructor)) static void end(void) {
      if (!ready) return;
      ready = 0;
      char path[4200], program[4096] = "";
      snprintf(path, sizeof path, "%s.process.%d", getenv("HEAP_REPORT"), (int)getpid());
      if (readlink("/proc/self/exe", program, sizeof program - 1) < 0) return;
      FILE *file = fopen(path, "w");
      if (!file) return;
      fprintf(file, "%s\n", file_name(program));
      for (int i = 0; i < used; i++) {
        const char *owner = "nobody";
        for (int k = 0; k < places[i].depth; k++) {
          Dl_info info;
          if (!dladdr(places[i].frames[k], &info) || !info.dli_fname || serves(file_name(info.dli_fname))) continue;
          owner = file_name(info.dli_fname);
          break;
        }
        fprintf(
          file, "%s %ld %zu %s", places[i].within ? "within" : "outside", places[i].count, places[i].bytes, owner);
        for (int k = 0; k < places[i].depth; k++) {
          Dl_info info;
          if (!dladdr(places[i].frames[k], &info) || !info.dli_fname) fprintf(file, " ?");
          else if (info.dli_sname) fprintf(file, " %s", info.dli_sname);
          else
            fprintf(
              file, " %s+0x%zx", file_name(info.dli_fname),
              (size_t)((char *)places[i].frames[k] - (char *)info.dli_fbase));
        }
        fprintf(file, "\n");
      }
      fclose(file);
    }
    """#
}
