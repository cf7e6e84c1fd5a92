import Dist
import Foundation

extension ThreadPlan {
  /// The plan of this rank, made from the cores of all ranks on its node. Every rank must call it.
  static func agreed(over ranks: Communicator) throws -> ThreadPlan {
    struct Seat: Codable {
      var boot: String
      var cores: Cores
    }
    let own = Seat(boot: Host.current.boot, cores: .current)
    let all = try ranks.allGather([UInt8](JSONEncoder().encode(own))).map {
      try JSONDecoder().decode(Seat.self, from: Data($0))
    }
    let node = all.indices.filter { all[$0].boot == own.boot }
    guard let place = node.firstIndex(of: ranks.rank) else { preconditionFailure("a rank is on its own node") }
    return ThreadPlan(
      rank: place, node: node.map { all[$0].cores }, environment: ProcessInfo.processInfo.environment)
  }
}
