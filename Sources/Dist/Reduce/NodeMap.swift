/// The nodes that a job's ranks are on. In an exchange of two levels the piece of an array that belongs to a rank, its
/// owner, passes through one rank of each node, the relay: a node's sums leave it there, and sums or values arrive.
public struct NodeMap: Sendable, Equatable {
  /// The ranks of each node in rising order. The nodes are in the order of their first ranks.
  public let nodes: [[Int]]
  /// Each rank's node, as an index of `nodes`.
  let node: [Int]
  /// Each rank's place among the ranks of its node.
  let place: [Int]

  /// Creates the map of a job. `firstRanks` has, for each rank, the first rank of its node.
  public init(firstRanks: [Int]) {
    var nodes: [[Int]] = []
    var indices: [Int: Int] = [:]
    var (node, place): ([Int], [Int]) = ([], [])
    for (rank, first) in firstRanks.enumerated() {
      let index = indices[first] ?? nodes.count
      if index == nodes.count {
        indices[first] = index
        nodes.append([])
      }
      node.append(index)
      place.append(nodes[index].count)
      nodes[index].append(rank)
    }
    (self.nodes, self.node, self.place) = (nodes, node, place)
  }

  /// Creates a map in which each node has the next `size` ranks, and the last one the rest.
  public init(ranks: Int, ofNode size: Int) { self.init(firstRanks: (0..<ranks).map { $0 / size * size }) }

  /// The number of ranks.
  public var ranks: Int { node.count }
  /// True if two levels differ from one: there are several nodes, and some have several ranks.
  public var hasTwoLevels: Bool { nodes.count > 1 && nodes.count < ranks }

  /// Returns the rank of a node through which the pieces of `owner` pass. The owners of a node have different relays,
  /// as far as there are so many ranks, so that all ranks of a node take part in sending.
  func relay(of owner: Int, on node: Int) -> Int { nodes[node][place[owner] % nodes[node].count] }

  /// Returns the relays of a rank's pieces, one on each node, in rising order.
  func relays(of owner: Int) -> [Int] { nodes.indices.map { relay(of: owner, on: $0) }.sorted() }

  /// Returns the owners whose pieces pass through a rank, itself among them, in rising order.
  func owners(through relay: Int) -> [Int] {
    let count = nodes[node[relay]].count
    return node.indices.filter { place[$0] % count == place[relay] }
  }

  /// Returns how many of `rows` each node's ranks touch, given how many each rank does, if no two touch the same one.
  public func together(_ touched: [Int], of rows: Int) -> [Int] {
    nodes.map { ranks in min(ranks.reduce(0) { $0 + touched[$1] }, rows) }
  }
}
