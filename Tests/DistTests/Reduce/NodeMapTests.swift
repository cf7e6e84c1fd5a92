import Testing

@testable import Dist

@Suite struct NodeMapTests {
  @Test func nodesAreInTheOrderOfTheirFirstRanks() {
    // Ranks were dealt out one by one to three nodes, of which the last has one.
    let map = NodeMap(firstRanks: [0, 1, 2, 0, 1, 0])
    #expect(map.nodes == [[0, 3, 5], [1, 4], [2]])
    #expect(map.node == [0, 1, 2, 0, 1, 0] && map.place == [0, 0, 0, 1, 1, 2])
    #expect(map.ranks == 6 && map.hasTwoLevels)
    #expect(NodeMap(ranks: 5, ofNode: 2).nodes == [[0, 1], [2, 3], [4]])
    #expect(!NodeMap(ranks: 3, ofNode: 3).hasTwoLevels && !NodeMap(ranks: 3, ofNode: 1).hasTwoLevels)
  }

  @Test(arguments: [[0, 1, 2, 0, 1, 0], [0, 0, 2, 2], [0, 1, 1], [0, 0, 0], [0, 1, 2], [0]])
  func everyPieceHasOneRelayOnEachNode(firstRanks: [Int]) {
    let map = NodeMap(firstRanks: firstRanks)
    for owner in 0..<map.ranks {
      #expect(map.relay(of: owner, on: map.node[owner]) == owner, "an owner is its own relay")
      #expect(map.relays(of: owner) == map.relays(of: owner).sorted() && map.relays(of: owner).count == map.nodes.count)
      for rank in 0..<map.ranks {
        #expect(map.owners(through: rank).contains(owner) == map.relays(of: owner).contains(rank))
      }
    }
    for node in map.nodes {
      let owners = node.flatMap(map.owners(through:))
      #expect(owners.sorted() == Array(0..<map.ranks))
    }
  }
}
