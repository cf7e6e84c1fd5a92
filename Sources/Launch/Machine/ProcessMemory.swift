import Foundation

/// What this process has resident, in MiB, as Linux counts it.
enum ProcessMemory {
  /// The most that has been resident, since the start or the last reset.
  static var peak: Double { figure("VmHWM:", in: "/proc/self/status") }

  /// What is resident now.
  static var now: Double { figure("VmRSS:", in: "/proc/self/status") }

  /// What of it is memory that processes share, as windows are.
  static var windows: Double { figure("RssShmem:", in: "/proc/self/status") }

  /// What is resident now, where memory that n processes have mapped counts one nth: the sum over processes is what
  /// they hold together.
  static var share: Double { figure("Pss:", in: "/proc/self/smaps_rollup") }

  /// Makes the peak what is resident now, where the system allows it.
  static func resetPeak() { try? "5".write(toFile: "/proc/self/clear_refs", atomically: false, encoding: .utf8) }

  /// Bytes that this process has asked files for, since its start.
  static var read: Double { number("rchar:", in: "/proc/self/io") }

  /// A line `NAME   123 kB`; 0 where there is none.
  private static func figure(_ name: String, in file: String) -> Double { number(name, in: file) / 1024 }

  private static func number(_ name: String, in file: String) -> Double {
    let text = (try? String(contentsOfFile: file, encoding: .utf8)) ?? ""
    let line = text.split(separator: "\n").first { $0.hasPrefix(name) }
    return line?.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap { Double($0) } ?? 0
  }
}
