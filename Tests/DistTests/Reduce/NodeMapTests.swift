import Tensor
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

  /// The ranks of a machine may count as several nodes, but never those of several machines as one.
  @Test func partsOfAMachineCountAsNodes() throws {
    #expect(try NodeGroups("1,1").dividing([0, 0, 0]) == [0, 1, 2])
    #expect(try NodeGroups("2").dividing([0, 0, 0, 0]) == [0, 0, 2, 2])
    #expect(try NodeGroups("7").dividing([0, 0, 0]) == [0, 0, 0])
    #expect(try NodeGroups("3,1").dividing([0, 0, 2, 2]) == [0, 0, 2, 3])
    for text in ["0", "2,", "-1", "two", "1,99999999999999999999", " 2"] {
      let error = #expect(throws: NodeGroupsError.self) { try NodeGroups(text) }
      #expect(error?.description.hasPrefix("KINSHIP_NODES is “\(text)”; expected numbers of ranks") == true)
      #expect(error?.status == .usage)
    }
  }

  /// Each number that travels rounded takes two bytes, and any other as many as it has.
  @Test func packedValues() throws {
    let bucket = Bucket(range: 16..<80, pieces: [16..<32, 32..<48, 48..<80])
    let values = Tensor<Double>(Shape(80), (0..<80).map { 1 + Double($0) / 1024 })
    let packing = try #require(PackedValues<Double>(bucket, rounded: [0..<8, 20..<40, 76..<90]))
    #expect(PackedValues<Double>(bucket, rounded: [0..<8, 90..<100]) == nil)
    #expect(packing.ranges.total == 20 + 4 + 4 * 40)
    #expect(PackedValues<Double>.bytes(of: bucket.range, rounded: [0..<8, 20..<40, 76..<90]) == 2 * (24 + 160))
    let (packed, other) = (Tensor<UInt16>(Shape(packing.ranges.total)), Tensor<Double>(Shape(80)))
    for rank in 0..<3 {
      packing.pack(values, of: rank, into: packed)
      packing.unpack(packed, of: rank, into: other)
    }
    for place in 16..<80 {
      let isRounded = (20..<40).contains(place) || place >= 76
      // Of the ten bits behind the point, seven are left.
      #expect(isRounded ? abs(other[place] - values[place]) <= 0x1p-8 : other[place] == values[place], "\(place)")
    }
    #expect(other.array != values.array && other.array.prefix(16).allSatisfy { $0 == 0 })
  }
}
