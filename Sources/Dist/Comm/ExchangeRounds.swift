/// The rounds in which a rank exchanges blocks with all others. In a round it sends to one rank at most, and receives
/// from one at most, so that no link carries messages of two. All ranks have as many rounds.
///
/// An even number of ranks goes in pairs, which send to each other: after one round less than there are ranks, each has
/// met all others. A rank then waits for its partner alone, over a connection that carries blocks both ways. In circles
/// each sends to one rank and receives from another, and waits for both: on four hosts with links of 100 Mb/s that took
/// at least 1.8 times what the bytes take; on two hosts, which are a pair either way, it is 1.03 times. Pairs on four
/// hosts are still to be measured. With an odd number of ranks one would be left over in each round; there they do go
/// in circles, of one distance after another.
struct ExchangeRounds: Sendable {
  /// The rank to which a rank sends in a round, and the one from which it receives; the rank itself stands for none.
  struct Peers: Sendable, Equatable { let to, from: Int }

  /// The peers of each round.
  let peers: [Peers]

  /// Creates the rounds of a rank among `size`.
  init(rank: Int, size: Int) { peers = (1..<size).map { Self.peers(of: rank, in: $0, among: size) } }

  /// Creates the rounds of a rank on nodes. The ranks of its own node come first. Then nodes meet as single ranks do,
  /// each time in as many rounds as a node has places: first the ranks in the same place, which relay for each other.
  init(rank: Int, over map: NodeMap) {
    let (node, place) = (map.node[rank], map.place[rank])
    let places = map.nodes.map(\.count).max() ?? 1
    func peer(at distant: Int, of other: Int) -> Int {
      let place = distant % places
      return place < map.nodes[other].count ? map.nodes[other][place] : rank
    }
    let nodes = [Peers(to: node, from: node)] + ExchangeRounds(rank: node, size: map.nodes.count).peers
    peers = nodes.flatMap { nodes in
      (0..<places).map { distance in
        Peers(
          to: peer(at: place + distance, of: nodes.to), from: peer(at: place + places - distance, of: nodes.from))
      }
    }
  }

  private static func peers(of rank: Int, in round: Int, among size: Int) -> Peers {
    guard size % 2 == 0 else { return Peers(to: (rank + round) % size, from: (rank + size - round) % size) }
    // Partners are those whose numbers add up to the round's, modulo size − 1. The rank that would be its own partner
    // meets the last one, which has no part in these sums.
    let last = size - 1
    if rank == last {
      let partner = round * (size / 2) % last
      return Peers(to: partner, from: partner)
    }
    let other = (round + last - rank) % last
    let partner = other == rank ? last : other
    return Peers(to: partner, from: partner)
  }
}
