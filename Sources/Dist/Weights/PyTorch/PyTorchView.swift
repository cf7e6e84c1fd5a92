/// A tensor's numbers in a PyTorch file: a view of its storage, held against the storage's bytes.
struct PyTorchView: Sendable {
  let shape: [Int]
  /// How many numbers of the storage lie from one index to the next.
  let strides: [Int]
  /// How many numbers the tensor has.
  let count: Int
  /// From its first number to its last, those between that are not its own included.
  let numbers: StoredNumbers

  /// `bytes`: where the storage is in the file; nil where there is none.
  init(_ tensor: PickleTensor, name: String, in bytes: Range<Int>?) throws(Unpickler.Problem) {
    func problem(_ reason: String) -> Unpickler.Problem { .init(reason: "tensor \(name): \(reason)") }
    let storage = tensor.storage
    guard let bytes else { throw problem("its storage data/\(storage.key) is missing") }
    guard storage.count <= bytes.count / storage.type.size else {
      throw problem(
        "its storage claims \(storage.count) numbers of \(storage.type.rawValue), data/\(storage.key) has "
          + "\(bytes.count) bytes")
    }
    // In this order no product can be too large to be compared.
    var (count, last) = (1, tensor.offset)
    for (size, stride) in zip(tensor.shape, tensor.strides) {
      let (product, tooMany) = count.multipliedReportingOverflow(by: size)
      let (step, tooFar) = max(size - 1, 0).multipliedReportingOverflow(by: stride)
      let (sum, beyond) = last.addingReportingOverflow(step)
      guard !tooMany, !tooFar, !beyond else {
        throw problem("sizes \(tensor.shape) and strides \(tensor.strides) are absurd")
      }
      (count, last) = (product, sum)
    }
    guard count == 0 || last < storage.count else {
      throw problem(
        "offset \(tensor.offset), sizes \(tensor.shape) and strides \(tensor.strides) reach beyond its storage of "
          + "\(storage.count) numbers")
    }
    shape = tensor.shape
    strides = tensor.strides
    self.count = count
    let offset = count == 0 ? 0 : tensor.offset
    numbers = StoredNumbers(
      type: storage.type, offset: bytes.lowerBound + offset * storage.type.size,
      count: count == 0 ? 0 : last - offset + 1)
  }

  /// Whether the numbers stand one behind the other in the order of rows.
  var isContiguous: Bool {
    guard count > 0 else { return true }
    var step = 1
    for (size, stride) in zip(shape, strides).reversed() where size != 1 {
      guard stride == step else { return false }
      step *= size
    }
    return true
  }

  /// Calls `body` with each element's place, row-major, and its place among `numbers`.
  func forEachPlace(_ body: (Int, Int) -> Void) {
    var index = [Int](repeating: 0, count: shape.count)
    var from = 0
    for at in 0..<count {
      body(at, from)
      for axis in shape.indices.reversed() {
        index[axis] += 1
        from += strides[axis]
        if index[axis] < shape[axis] { break }
        from -= index[axis] * strides[axis]
        index[axis] = 0
      }
    }
  }
}
