import Dist
import Foundation
import Tensor

/// The memory that the processes of this node may still take: what is available on the machine, swap included, or what
/// is left to their control group, or to one that contains it, whichever is less.
enum NodeMemory {
  /// The files of a control group in version 2 and in version 1: its limit, its use, and the lines of its statistics
  /// with the pages of files, which the system drops when memory is short. `mark` precedes its path.
  private static let versions = [
    (
      root: "/sys/fs/cgroup", mark: "0::", limit: "memory.max", used: "memory.current",
      files: ["inactive_file", "active_file"]
    ),
    (
      root: "/sys/fs/cgroup/memory", mark: ":memory:", limit: "memory.limit_in_bytes", used: "memory.usage_in_bytes",
      files: ["total_inactive_file", "total_active_file"]
    ),
  ]

  /// Returns the bytes that each of `ranks` processes of this node, with `threads` threads that compute, may take; nil
  /// if the system does not say. `root` stands before the paths of the system's files.
  static func share(ofRanks ranks: Int, threads: Int = Threads.count, root: String = "") -> Int? {
    let parts = ["MemAvailable:", "SwapFree:"].map { ProcessMemory.number($0, in: "\(root)/proc/meminfo") * 1024 }
    guard parts[0] > 0 else { return nil }
    let machine = parts[0] + parts[1]
    let node = groups(root).reduce(Int(machine), min) / ranks
    return min(node, addresses(root, threads) ?? node)
  }

  /// Returns the bytes that are left to each control group that limits this process.
  private static func groups(_ root: String) -> [Int] {
    let lines = (SystemFile.text("\(root)/proc/self/cgroup") ?? "").split(separator: "\n")
    return versions.flatMap { version -> [Int] in
      guard let line = lines.first(where: { $0.contains(version.mark) }),
        let mark = line.range(of: version.mark)
      else { return [] }
      var names = line[mark.upperBound...].split(separator: "/")
      var left: [Int] = []
      // The path may be the host's, of which a container sees only the last part of the tree: its own group is the
      // root.
      while true {
        let folder = ([root + version.root] + names.map(String.init)).joined(separator: "/")
        if let limit = number("\(folder)/\(version.limit)"), let used = number("\(folder)/\(version.used)") {
          let files = version.files.reduce(0.0) { $0 + ProcessMemory.number("\($1) ", in: "\(folder)/memory.stat") }
          left.append(max(limit - max(used - Int(files), 0), 0))
        }
        guard names.popLast() != nil else { return left }
      }
    }
  }

  /// Returns the bytes of addresses that this process may still take (`ulimit -v`); nil if there is no limit. OpenBLAS
  /// reserves 128 MiB for each thread that multiplies, and asks forever where the limit leaves none. As much as for one
  /// of them is left to the stacks and heaps of all other threads.
  private static func addresses(_ root: String, _ threads: Int) -> Int? {
    let line = SystemFile.text("\(root)/proc/self/limits")?.split(separator: "\n").first {
      $0.hasPrefix("Max address space")
    }
    guard let limit = line.flatMap({ Int($0.split(whereSeparator: \.isWhitespace)[3]) }) else { return nil }
    let taken = Int(ProcessMemory.number("VmSize:", in: "\(root)/proc/self/status") * 1024)
    return max(limit - taken - (threads + 1) * 128 << 20, 0)
  }

  /// Returns the number that is a file's contents; nil for the word `max`, and if there is no such file.
  private static func number(_ path: String) -> Int? {
    SystemFile.text(path).flatMap { Int($0.trimmingCharacters(in: .whitespacesAndNewlines)) }
  }
}
