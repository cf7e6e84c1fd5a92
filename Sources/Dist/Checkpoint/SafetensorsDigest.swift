public import Tensor

extension SafetensorsFile {
  /// SHA-256 of the whole file, in hexadecimal digits, for one who has read its numbers already: what `values` gives of
  /// a tensor of 32-bit floats, as it was read, is not read again.
  public func sha256(having values: (_ name: String) -> Tensor<Float>?) throws(SafetensorsError) -> String {
    var hasher = SHA256()
    func add(_ range: Range<Int>, to hasher: inout SHA256) throws(SafetensorsError) {
      try SafetensorsError.naming(path) { () throws(FileError) in try file.hash(range, into: &hasher) }
    }
    try add(0..<start, to: &hasher)
    // In the order of their bytes, which leave no holes.
    for name in names {
      let entry = try entry(name)
      if entry.type == .float32, let tensor = values(name) {
        precondition(tensor.count * 4 == entry.range.count, "\(name) of \(entry.shape) is not \(tensor.shape)")
        // The file's byte order is that of every processor we build for.
        unsafe tensor.withUnsafeMutableBuffer { unsafe hasher.update(UnsafeRawBufferPointer($0)) }
      } else {
        try add(start + entry.range.lowerBound..<start + entry.range.upperBound, to: &hasher)
      }
    }
    return hasher.finalize().hexadecimal
  }
}
