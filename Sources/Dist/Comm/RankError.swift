/// The error of a rank that failed in an operation of all ranks, as the others throw it.
public struct RankError: Error, ExitCoded, Hashable, CustomStringConvertible {
  public let description: String
  public let status: ExitStatus
  public var isShared: Bool { true }

  /// Creates the error that `bytes(of:)` has written.
  init(bytes: [UInt8]) {
    status = ExitStatus(rawValue: Int32(bytes[0])) ?? .internalError
    description = String(decoding: bytes.dropFirst(), as: UTF8.self)
  }

  /// Returns an error as bytes for other ranks. The first of them is not 0.
  static func bytes(of error: any Error) -> [UInt8] {
    [UInt8(truncatingIfNeeded: error.exitStatus.rawValue)] + Array(error.explanation.utf8)
  }
}

extension Communicator {
  /// Runs `body` on all ranks, which must call it. If it throws on any, all throw the error of the first of them.
  package func together<R>(_ body: () throws -> R) throws -> R {
    let outcome = Result { try body() }
    var bytes: [UInt8] = []
    if case .failure(let error) = outcome { bytes = RankError.bytes(of: error) }
    // The first of them has the largest negative rank. This comes often, and hardly ever has a rank failed.
    let first = -(try allReduce(bytes.isEmpty ? -size : -rank, .maximum))
    guard first == size else {
      try broadcast(&bytes, root: first)
      throw RankError(bytes: bytes)
    }
    return try outcome.get()
  }
}
