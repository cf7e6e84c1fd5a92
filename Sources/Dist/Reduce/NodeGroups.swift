internal import Foundation

/// Parts of a machine's ranks that count as nodes of their own where ranks exchange gradients and parameters, so that
/// one machine can try what runs on several. The environment variable has the numbers of ranks on each such node, as in
/// `2,1`, in the order of the ranks; those that are left are one more.
public struct NodeGroups: Sendable, Equatable {
  static let variable = "KINSHIP_NODES"
  let sizes: [Int]

  /// Reads the variable; nil if it is not set.
  public static func current() throws -> NodeGroups? {
    let text = ProcessInfo.processInfo.environment[variable] ?? ""
    return try text.isEmpty ? nil : NodeGroups(text)
  }

  init(_ text: String) throws {
    let parts = text.split(separator: ",", omittingEmptySubsequences: false)
    sizes = parts.compactMap { Int($0) }.filter { 1...1 << 20 ~= $0 }
    guard sizes.count == parts.count else { throw NodeGroupsError(text: text) }
  }

  /// Returns the first rank of each rank's node, given that of the machine's node.
  public func dividing(_ firstRanks: [Int]) -> [Int] {
    let ends = sizes.endToEnd.map(\.upperBound)
    var firsts: [[Int]: Int] = [:]
    return firstRanks.enumerated().map { rank, first in
      let key = [first, ends.firstIndex { rank < $0 } ?? ends.count]
      if firsts[key] == nil { firsts[key] = rank }
      return firsts[key] ?? rank
    }
  }
}

/// A value of `KINSHIP_NODES` that lists no numbers of ranks.
struct NodeGroupsError: ExitCoded, Hashable, CustomStringConvertible {
  let text: String
  var isShared: Bool { true }
  var status: ExitStatus { .usage }
  var description: String {
    "\(NodeGroups.variable) is “\(text)”; expected numbers of ranks that count as a node each, such as 2,2, or nothing"
  }
}
