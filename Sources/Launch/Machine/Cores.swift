import CMachine
import Foundation

/// The cores that this process may use.
struct Cores: Sendable, Equatable, Codable {
  /// One logical processor of each core that the process is bound to: a second thread of a core adds nothing to
  /// matrix products.
  var bound: [Int]
  /// How many cores the node offers to processes of this job, bound or not.
  var node: Int
  /// How many cores' worth of time the container may use, if that is limited.
  var quota: Double?

  /// What the system says now.
  static var current: Cores {
    let processors = boundProcessors()
    let online = list("/sys/devices/system/cpu/online") ?? processors
    let allowed = list("/sys/fs/cgroup/cpuset.cpus.effective").map(Set.init) ?? Set(online)
    let offered = online.filter { allowed.contains($0) }
    return Cores(
      bound: physical(processors), node: max(physical(offered).count, physical(processors).count),
      quota: quota(under: "/sys/fs/cgroup"))
  }

  /// The logical processors of this process's affinity mask.
  private static func boundProcessors() -> [Int] {
    var processors = [Int32](repeating: 0, count: 65_536)
    let count = unsafe Int(kinship_bound_processors(&processors, Int32(processors.count)))
    guard count > 0 else { return Array(0..<ProcessInfo.processInfo.activeProcessorCount) }
    return processors.prefix(count).map(Int.init)
  }

  /// Keeps the first of each core's logical processors.
  private static func physical(_ processors: [Int]) -> [Int] {
    var seen: Set<[Int]> = []
    return processors.filter { processor in
      let siblings = list("/sys/devices/system/cpu/cpu\(processor)/topology/thread_siblings_list") ?? [processor]
      return seen.insert(siblings).inserted
    }
  }

  /// The time limit of the innermost control group that has one: version 2, then version 1.
  static func quota(under root: String) -> Double? {
    if let words = words("\(root)/cpu.max"), words.count == 2 { return ratio(words[0], words[1]) }
    if let limit = words("\(root)/cpu/cpu.cfs_quota_us")?.first,
      let period = words("\(root)/cpu/cpu.cfs_period_us")?.first
    {
      return ratio(limit, period)
    }
    return nil
  }

  private static func ratio(_ limit: String, _ period: String) -> Double? {
    guard let limit = Double(limit), let period = Double(period), limit > 0, period > 0 else { return nil }
    return limit / period
  }

  private static func words(_ path: String) -> [String]? {
    let text = try? String(contentsOfFile: path, encoding: .utf8)
    return text?.split(whereSeparator: \.isWhitespace).map(String.init)
  }

  private static func list(_ path: String) -> [Int]? { words(path)?.first.flatMap(Self.list(text:)) }

  /// Reads the kernel's form of a set of processors: `0-3,8,10-11`.
  static func list(text: String) -> [Int]? {
    var processors: [Int] = []
    for part in text.split(separator: ",") {
      let ends = part.split(separator: "-", omittingEmptySubsequences: false).map { Int($0) }
      guard let first = ends.first ?? nil, let last = ends.last ?? nil, first <= last, ends.count <= 2 else {
        return nil
      }
      processors += first...last
    }
    return processors.isEmpty ? nil : processors
  }
}
