import Synchronization

/// Zeroed scratch for the sums of each part: on the stack where it is small, and otherwise in memory that whoever asks
/// next uses again.
@inline(__always)
func withPartialSums<S: Scalar>(of type: S.Type, count: Int, _ body: (UnsafeMutablePointer<S>) -> Void) {
  let bytes = count * MemoryLayout<S>.stride
  guard bytes > 1024 else {
    return withUnsafeTemporaryAllocation(of: S.self, capacity: count) { buffer in
      buffer.initialize(repeating: 0)
      body(buffer.baseAddress!)
    }
  }
  var memory = idleSums.withLock { $0.popLast() } ?? ScratchMemory()
  let sums = memory.room(bytes).bindMemory(to: S.self, capacity: count)
  sums.initialize(repeating: 0, count: count)
  body(sums)
  idleSums.withLock { $0.append(memory) }
}

/// Memory for sums that nobody uses just now. Who asks within another's sums gets other memory, the same every time.
private let idleSums = Mutex<[ScratchMemory]>([])

extension ScratchMemory: @unchecked Sendable {}
