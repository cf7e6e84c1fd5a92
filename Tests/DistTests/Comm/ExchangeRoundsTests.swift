import Testing

@testable import Dist

@Suite struct ExchangeRoundsTests {
  @Test(arguments: 1...17) func everyRankSendsToEachOtherOnce(size: Int) {
    let ranks = (0..<size).map { ExchangeRounds(rank: $0, size: size).peers }
    for (rank, peers) in ranks.enumerated() {
      let others = (0..<size).filter { $0 != rank }
      #expect(peers.map(\.to).sorted() == others && peers.map(\.from).sorted() == others, "\(rank): \(peers)")
    }
    for round in 0..<size - 1 {
      for rank in 0..<size {
        let peers = ranks[rank][round]
        #expect(ranks[peers.to][round].from == rank, "round \(round): two send to rank \(peers.to)")
        #expect(size % 2 == 1 || peers.to == peers.from, "round \(round): \(rank) has no partner")
      }
    }
  }

  /// Nodes of equal and of unequal size, and ranks that were dealt out to nodes one by one.
  @Test(arguments: [
    [0], [0, 0, 0], [0, 1, 2], [0, 1, 2, 3], [0, 0, 2, 2], [0, 1, 1], [0, 1, 2, 0, 1, 0], [0, 0, 2, 2, 4, 4, 6, 6],
    [0, 0, 0, 3, 3, 5, 5, 5],
  ])
  func nodesMeetOneAtATime(firstRanks: [Int]) {
    let map = NodeMap(firstRanks: firstRanks)
    let ranks = (0..<map.ranks).map { ExchangeRounds(rank: $0, over: map).peers }
    for (rank, peers) in ranks.enumerated() {
      let others = (0..<map.ranks).filter { $0 != rank }
      #expect(peers.count == ranks[0].count)
      #expect(peers.map(\.to).filter { $0 != rank }.sorted() == others, "\(rank): \(peers)")
      #expect(peers.map(\.from).filter { $0 != rank }.sorted() == others, "\(rank): \(peers)")
    }
    for round in ranks[0].indices {
      for rank in 0..<map.ranks {
        let (to, from) = (ranks[rank][round].to, ranks[rank][round].from)
        #expect(to == rank || ranks[to][round].from == rank, "round \(round): two send to rank \(to)")
        #expect(from == rank || ranks[from][round].to == rank, "round \(round): \(from) does not send to \(rank)")
      }
      for (node, own) in map.nodes.enumerated() {
        let met = Set(own.map { map.node[ranks[$0][round].to] }).subtracting([node])
        #expect(met.count <= 1, "round \(round): node \(node) sends to the nodes \(met)")
      }
    }
  }

  /// Without levels each rank is a node.
  @Test func nodesOfOneRankMeetAsRanksDo() {
    for size in 1...9 {
      let map = NodeMap(ranks: size, ofNode: 1)
      for rank in 0..<size {
        let peers = ExchangeRounds(rank: rank, over: map).peers
        #expect(Array(peers.dropFirst()) == ExchangeRounds(rank: rank, size: size).peers)
      }
    }
  }
}
