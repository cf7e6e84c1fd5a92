import Testing

@testable import Dist

/// `KINSHIP_NODES`, by which the ranks of a machine count as several nodes.
@Suite struct NodeGroupsTests {
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
}
