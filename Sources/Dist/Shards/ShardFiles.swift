internal import Synchronization

/// The shards' open files: at most `limit`, so that a corpus of thousands does not exhaust a process's descriptors.
final class ShardFiles: Sendable {
  private struct State {
    var open: [Int: OpenFile] = [:]
    /// Shards in the order in which they were opened; the oldest goes first.
    var order: [Int] = []
  }

  private let limit: Int
  private let state = Mutex(State())

  init(limit: Int = 128) { self.limit = limit }

  /// The file of shard `index`. A file that is let go is closed when the last read in it has ended.
  func file(_ index: Int, path: String) throws(FileError) -> OpenFile {
    if let file = state.withLock({ $0.open[index] }) { return file }
    let file = try OpenFile.reading(path)
    return state.withLock { state in
      if let other = state.open[index] { return other }
      if state.order.count >= limit { state.open[state.order.removeFirst()] = nil }
      state.open[index] = file
      state.order.append(index)
      return file
    }
  }
}
