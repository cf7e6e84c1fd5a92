/// Why no file came of a merge: what the first rank that failed has to say.
public struct MergeError: Error, ExitCoded, Hashable, CustomStringConvertible {
  public let description: String
  public let exitCode: Int32
}

extension Communicator {
  /// Runs `body`, then waits for the other ranks and learns how they fared: where any has failed, all throw what the
  /// first of them has to say. Every rank must call it.
  package func together<R>(_ body: () throws -> R) throws -> R {
    let outcome = Result { try body() }
    var words: [UInt8] = []
    if case .failure(let error) = outcome {
      let code = (error as? any ExitCoded)?.exitCode ?? 70
      words = [UInt8(truncatingIfNeeded: code)] + Array("\(error)".utf8)
    }
    if let first = try allGather(words).first(where: { !$0.isEmpty }) {
      throw MergeError(
        description: String(decoding: first.dropFirst(), as: UTF8.self), exitCode: Int32(first[0]))
    }
    return try outcome.get()
  }
}
