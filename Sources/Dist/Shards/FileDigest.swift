extension OpenFile {
  /// Reads `count` bytes at `offset` into `bytes`, whose memory is kept.
  func read(_ count: Int, at offset: Int, into bytes: inout [UInt8]) throws(FileError) {
    bytes.removeAll(keepingCapacity: true)
    var failure: FileError?
    bytes.append(addingCapacity: count) { output in
      unsafe output.withUnsafeMutableBufferPointer { buffer, initialized in
        let target = unsafe UnsafeMutableRawBufferPointer(start: buffer.baseAddress, count: count)
        do throws(FileError) {
          try unsafe read(into: target, at: offset)
          initialized = count
        } catch { failure = error }
      }
    }
    if let failure { throw failure }
  }

  /// Adds the bytes in `range` to a hash.
  func hash(_ range: Range<Int>, into hasher: inout SHA256) throws(FileError) {
    let block = 1 << 20
    var bytes: [UInt8] = []
    var at = range.lowerBound
    while at < range.upperBound {
      try read(min(block, range.upperBound - at), at: at, into: &bytes)
      hasher.update(bytes)
      at += bytes.count
    }
  }

  /// SHA-256 of the file, or of all of it but the bytes in `gap`, in hexadecimal digits.
  func sha256(without gap: Range<Int> = 0..<0) throws(FileError) -> String {
    var hasher = SHA256()
    try hash(0..<gap.lowerBound, into: &hasher)
    try hash(gap.upperBound..<max(try size(), gap.upperBound), into: &hasher)
    return hasher.finalize().hexadecimal
  }
}
