import CMachine
import Dist
import Foundation
import Tensor

/// The number of threads of each kind that a rank runs, which follows from its cores.
struct ThreadPlan: Sendable, Equatable, Codable {
  /// Threads of kernels and matrix products, including the calling thread.
  var compute: Int
  /// Threads that read and decode: one for every four compute threads, because they mostly wait.
  var loaders: Int
  /// Problems with the rank's binding to cores, each with the command that solves it.
  var warnings: [String]

  /// Makes the plan of rank `rank` of a node, of whose ranks `node` gives the cores.
  /// A core that u ranks are bound to counts 1/u for each of them, and all ranks of the node share a container's time
  /// limit. The environment can only lower the number, except that `KINSHIP_THREADS` sets it, up to the cores that the
  /// rank is bound to. Every rank rounds down, so that ranks of the same kind stay equal.
  init(rank: Int, node: [Cores], environment: [String: String]) {
    let own = node[rank]
    var users: [Int: Int] = [:]
    for cores in node { for core in cores.bound { users[core, default: 0] += 1 } }
    let share = own.bound.reduce(0.0) { $0 + 1 / Double(users[$1] ?? 1) }
    let timed = own.quota.map { $0 / Double(node.count) } ?? .infinity
    // A sum such as three thirds may fall short of a whole number by a rounding error.
    var threads = max(1, Int((min(share, timed) + 1e-6).rounded(.down)))
    var warnings = Self.bindingWarnings(own, node, users)

    for name in ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"] {
      if name == "OPENBLAS_NUM_THREADS", environment[Machine.marker]?.hasSuffix("threads") ?? false { continue }
      threads = min(threads, Self.count(environment[name]) ?? .max)
    }
    if let text = environment["KINSHIP_THREADS"], !text.isEmpty {
      if let wanted = Self.count(text) {
        threads = min(wanted, own.bound.count)
        if wanted > own.bound.count {
          warnings.append(
            "KINSHIP_THREADS=\(wanted) is more than the \(own.bound.count) cores this rank is bound to;"
              + " \(threads) are used")
        }
      } else {
        warnings.append("KINSHIP_THREADS=\(text) is not a number of threads and is ignored; set it to 1 or more")
      }
    }
    (compute, loaders, self.warnings) = (threads, max(1, threads / 4), warnings)
  }

  /// Applies the plan to the kernels and matrix products of this process; with fewer threads, and a warning, if the
  /// system refuses some. Throws if it leaves no addresses to matrix products, which would wait for them for ever.
  func apply() throws {
    Threads.count = compute
    guard Threads.haveAddresses else {
      throw UserError(
        "the limit on addresses (ulimit -v) leaves less than the 128 MiB that matrix products take; raise it",
        status: .usage)
    }
    if let warning = warning(using: Threads.count) { Job.report("kinship: \(warning)") }
  }

  /// Returns what is to be said if the system lets this process have `count` compute threads; nil if these are all.
  func warning(using count: Int) -> String? {
    guard count < compute else { return nil }
    let rank = Job.launchedRank.map { "rank \($0): " } ?? ""
    return "warning: \(rank)\(count) of \(Figures.count(compute, "compute thread")) in use, because the system refuses "
      + "more: \(SystemThread.limits)"
  }

  private static func count(_ text: String?) -> Int? {
    // OMP_NUM_THREADS may list one number for each nesting level; the first is the outermost.
    guard let first = text?.split(separator: ",").first, let count = Int(first), count > 0 else { return nil }
    return count
  }

  private static func bindingWarnings(_ own: Cores, _ node: [Cores], _ users: [Int: Int]) -> [String] {
    let ranks = node.count
    if ranks > own.node {
      let cores = Figures.count(own.node, "core")
      return [
        "\(ranks) ranks share the \(cores) of this node and wait for each other; start at most \(own.node) ranks a node"
      ]
    }
    var warnings: [String] = []
    let each = own.node / ranks
    let idle = own.node - users.count
    // Sharing costs time if other cores are idle, or if there are fewer cores than ranks on them.
    if users.values.contains(where: { $0 > 1 }), idle >= ranks || users.count < ranks {
      let fix = "--map-by slot:PE=\(each) --bind-to core"
      warnings.append("ranks share cores while \(idle) of the node's \(own.node) are idle; type mpirun \(fix)")
    } else if own.bound.count < each, idle >= ranks {
      let fix = ranks == 1 ? "--bind-to none" : "--map-by slot:PE=\(each) --bind-to core"
      let cores = "\(own.bound.count) of the node's \(own.node) cores"
      warnings.append("this rank is bound to \(cores) and \(idle) are idle; type mpirun \(fix)")
    }
    if let quota = own.quota, quota < Double(ranks) {
      warnings.append(
        "the container may use \(quota.formatted(.number.precision(.fractionLength(0...2)))) cores' time for"
          + " \(ranks) ranks; give it more (docker run --cpus) or start fewer ranks")
    }
    return warnings
  }

  /// Makes this rank's plan from the cores of all ranks on its node. Every rank must call it.
  static func agreed(over ranks: Communicator) throws -> ThreadPlan {
    struct Seat: Codable {
      var boot: String
      var cores: Cores
    }
    let all = try ranks.allGather(Seat(boot: Host.current.boot, cores: .current))
    let node = all.indices.filter { all[$0].boot == all[ranks.rank].boot }
    guard let place = node.firstIndex(of: ranks.rank) else { preconditionFailure("a rank is on its own node") }
    return ThreadPlan(rank: place, node: node.map { all[$0].cores }, environment: ProcessInfo.processInfo.environment)
  }
}

/// The cores that this process may use.
struct Cores: Sendable, Equatable, Codable {
  /// One logical processor of each core that the process is bound to: a second one does not speed up matrix products.
  var bound: [Int]
  /// The number of cores that the node offers to processes of this job, bound or not.
  var node: Int
  /// The container's time limit in cores, if it has one.
  var quota: Double?

  static var current: Cores {
    let processors = boundProcessors()
    let online = list("/sys/devices/system/cpu/online") ?? processors
    let allowed = list("/sys/fs/cgroup/cpuset.cpus.effective").map(Set.init) ?? Set(online)
    let offered = online.filter { allowed.contains($0) }
    return Cores(
      bound: physical(processors), node: max(physical(offered).count, physical(processors).count),
      quota: quota(under: "/sys/fs/cgroup"))
  }

  /// Returns the logical processors of this process's affinity mask.
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

  /// Returns the time limit of the control group in cores, by version 2 or else by version 1.
  static func quota(under root: String) -> Double? {
    if let words = words("\(root)/cpu.max"), words.count == 2 { return ratio(words[0], words[1]) }
    return ratio(words("\(root)/cpu/cpu.cfs_quota_us")?.first, words("\(root)/cpu/cpu.cfs_period_us")?.first)
  }

  private static func ratio(_ limit: String?, _ period: String?) -> Double? {
    guard let limit = limit.flatMap(Double.init), let period = period.flatMap(Double.init) else { return nil }
    return limit > 0 && period > 0 ? limit / period : nil
  }

  private static func words(_ path: String) -> [String]? {
    let text = SystemFile.text(path)
    return text?.split(whereSeparator: \.isWhitespace).map(String.init)
  }

  private static func list(_ path: String) -> [Int]? { words(path)?.first.flatMap(Self.list(text:)) }

  /// Reads a set of processors as the kernel writes it: `0-3,8,10-11`.
  static func list(text: String) -> [Int]? {
    var processors: [Int] = []
    for part in text.split(separator: ",") {
      let ends = part.split(separator: "-", omittingEmptySubsequences: false).map { Int($0) }
      guard let first = ends[0], let last = ends[ends.count - 1], first <= last, ends.count <= 2 else { return nil }
      processors += first...last
    }
    return processors.isEmpty ? nil : processors
  }
}
