import Foundation
import Tensor

/// How many threads of each kind a rank runs: one number for kernels and BLAS alike, taken from the cores it has.
struct ThreadPlan: Sendable, Equatable, Codable {
  /// Threads of kernels and of matrix products, the calling one included.
  var compute: Int
  /// Threads that read and decode: one for every four that compute, since they mostly wait.
  var loaders: Int
  /// What is wrong with the cores as they were given, and what to type.
  var warnings: [String]

  /// The plan of one rank.
  ///
  /// Each core counts 1/u for each of the u ranks that are bound to it; a container's time limit is shared by all
  /// ranks of the node. The environment can only lower the number, but for `KINSHIP_THREADS`, which sets it, up to
  /// the cores that the rank is bound to. Every rank rounds down, so that ranks of the same kind stay equal.
  ///
  /// - Parameters:
  ///   - rank: the rank's number on its node.
  ///   - node: the cores of every rank on the node, by that number.
  ///   - environment: the rank's environment variables.
  init(rank: Int, node: [Cores], environment: [String: String]) {
    let own = node[rank]
    var users: [Int: Int] = [:]
    for cores in node { for core in cores.bound { users[core, default: 0] += 1 } }
    let share = own.bound.reduce(0.0) { $0 + 1 / Double(users[$1] ?? 1) }
    let timed = own.quota.map { $0 / Double(node.count) } ?? .infinity
    // Sums of thirds may fall short of a whole by a rounding error.
    var threads = max(1, Int((min(share, timed) + 1e-6).rounded(.down)))
    var warnings = Self.bindingWarnings(own, node, users)

    for name in ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"] {
      if name == "OPENBLAS_NUM_THREADS", environment[Machine.marker]?.hasSuffix("threads") ?? false { continue }
      guard let limit = Self.count(environment[name]) else { continue }
      threads = min(threads, limit)
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
    self.compute = threads
    self.loaders = max(1, threads / 4)
    self.warnings = warnings
  }

  /// Makes the plan hold for the kernels and matrix products of this process.
  func apply() { Threads.count = compute }

  private static func count(_ text: String?) -> Int? {
    // OMP_NUM_THREADS may list one number a nesting level; the first is the outermost.
    guard let first = text?.split(separator: ",").first, let count = Int(first), count > 0 else { return nil }
    return count
  }

  private static func bindingWarnings(_ own: Cores, _ node: [Cores], _ users: [Int: Int]) -> [String] {
    var warnings: [String] = []
    let ranks = node.count
    if ranks > own.node {
      warnings.append(
        "\(ranks) ranks share the \(own.node) \(own.node == 1 ? "core" : "cores") of this node and wait for each other;"
          + " start at most \(own.node) ranks a node")
      return warnings
    }
    let each = own.node / ranks
    let idle = own.node - users.count
    // Sharing costs where others could be had, or where there are fewer cores than ranks on them.
    if users.values.contains(where: { $0 > 1 }), idle >= ranks || users.count < ranks {
      warnings.append(
        "ranks share cores while \(idle) of the node's \(own.node) are idle;"
          + " type mpirun --map-by slot:PE=\(each) --bind-to core")
    } else if own.bound.count < each, idle >= ranks {
      let fix = ranks == 1 ? "--bind-to none" : "--map-by slot:PE=\(each) --bind-to core"
      warnings.append(
        "this rank is bound to \(own.bound.count) of the node's \(own.node) cores and \(idle) are idle;"
          + " type mpirun \(fix)")
    }
    if let quota = own.quota, quota < Double(ranks) {
      warnings.append(
        "the container may use \(quota.formatted(.number.precision(.fractionLength(0...2)))) cores' time for"
          + " \(ranks) ranks; give it more (docker run --cpus) or start fewer ranks")
    }
    return warnings
  }
}
