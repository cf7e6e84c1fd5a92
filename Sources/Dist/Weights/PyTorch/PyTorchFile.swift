public import Tensor

/// An open PyTorch checkpoint: the zip archive that torch.save (since version 1.6) writes of a state dict, or of a
/// dictionary with one under `state_dict`. The names of the tensors may begin with `module.`.
///
/// The unpickler can build tensors and nothing else, so a checkpoint cannot run code. Numbers are read on demand.
public struct PyTorchFile: NamedTensors {
  public let path: String
  /// The names of the tensors, in the order of the state dict and without `module.`.
  public let names: [String]
  /// This is always empty, because a PyTorch checkpoint has no metadata.
  public var metadata: [String: String] { [:] }

  private let file: OpenFile
  private let views: [String: PyTorchView]

  /// Opens `path`. Throws for an archive with inconsistent entries, for a pickle that does more than describe tensors,
  /// and for tensors that reach beyond their storage.
  public init(_ path: String) throws(PyTorchError) {
    self.path = path
    let file = try PyTorchError.naming(path) { () throws(FileError) in try OpenFile.reading(path) }
    let archive = try PyTorchArchive(file)
    let tensors: [(name: String, tensor: PickleTensor)]
    var views: [String: PyTorchView] = [:]
    do throws(Unpickler.Problem) {
      tensors = try archive.unpickler.stateDict
      for (name, tensor) in tensors {
        views[name] = try PyTorchView(tensor, name: name, in: archive.data(of: tensor.storage))
      }
    } catch { throw PyTorchError(path: path, reason: error.reason) }
    self.file = file
    self.views = views
    names = tensors.map(\.name)
  }

  public func contains(_ name: String) -> Bool { views[name] != nil }

  public func shape(of name: String) throws(PyTorchError) -> Shape {
    let view = try view(name)
    guard let shape = Shape(view.shape) else {
      throw problem("tensor \(name) has the shape \(view.shape); at most four sizes can be used")
    }
    return shape
  }

  public func type(of name: String) throws(PyTorchError) -> SafetensorsType { try view(name).numbers.type }

  public func read<S: Scalar>(_ name: String, into tensor: Tensor<S>) throws(PyTorchError) {
    let view = try view(name)
    try check(view, name, wanted: tensor.count, shape: "\(tensor.shape)")
    try read(name, elements: 0..<view.count, into: tensor)
  }

  public func read<S: Scalar>(
    _ name: String, elements: Range<Int>, into tensor: Tensor<S>
  ) throws(PyTorchError) {
    let view = try view(name)
    guard elements.lowerBound >= 0, elements.upperBound <= view.count else {
      throw problem("tensor \(name) has the shape \(view.shape), expected at least \(elements.upperBound) numbers")
    }
    guard view.numbers.type.isFloatingPoint else {
      throw problem("tensor \(name) holds \(view.numbers.type.rawValue), expected floating-point numbers")
    }
    if view.isContiguous {
      let numbers = view.numbers.part(elements)
      try PyTorchError.naming(path) { () throws(FileError) in try numbers.read(file, into: tensor) }
    } else {
      let span = Tensor<S>(Shape(view.numbers.count))
      try PyTorchError.naming(path) { () throws(FileError) in try view.numbers.read(file, into: span) }
      view.forEachIndex { element, stored in
        if elements.contains(element) { tensor[element - elements.lowerBound] = span[stored] }
      }
    }
  }

  public func integers(_ name: String) throws(PyTorchError) -> [Int] {
    let view = try view(name)
    guard !view.numbers.type.isFloatingPoint else {
      throw problem("tensor \(name) holds \(view.numbers.type.rawValue), expected integers")
    }
    let span = try PyTorchError.naming(path) { () throws(FileError) in try view.numbers.integers(file) }
    guard !view.isContiguous else { return span }
    // An expanded tensor may claim any number of elements; more than the file holds are never needed.
    try check(view, name, wanted: min(view.count, span.count), shape: "at most \(span.count) numbers")
    var values = [Int](repeating: 0, count: view.count)
    view.forEachIndex { values[$0] = span[$1] }
    return values
  }

  private func check(_ view: PyTorchView, _ name: String, wanted: Int, shape: String) throws(PyTorchError) {
    guard view.count == wanted else {
      throw problem("tensor \(name) has the shape \(view.shape), expected \(shape)")
    }
  }

  private func view(_ name: String) throws(PyTorchError) -> PyTorchView {
    guard let view = views[name] else {
      throw problem(
        "it has no tensor \(name); it has \(names.count), among them \(names.prefix(5).joined(separator: ", "))")
    }
    return view
  }

  private func problem(_ reason: String) -> PyTorchError { PyTorchError(path: path, reason: reason) }
}

extension Unpickler {
  /// The tensors of the state dict, which is the result of the pickle or its value under `state_dict`.
  var stateDict: [(name: String, tensor: PickleTensor)] {
    get throws(Problem) {
      guard case .dictionary(let top) = root else {
        throw Problem(reason: "it holds \(root.kind), expected a state dict")
      }
      var node = top
      for (key, value) in dictionaries[top] {
        guard case .string("state_dict") = key else { continue }
        guard case .dictionary(let inner) = value else {
          throw Problem(reason: "state_dict is \(value.kind), expected a dictionary")
        }
        node = inner
      }
      var found: [(name: String, tensor: PickleTensor)] = []
      var names: Set<String> = []
      for (key, value) in dictionaries[node] {
        guard case .string(let name) = key else { throw Problem(reason: "a key of the state dict is \(key.kind)") }
        guard case .tensor(let tensor) = value else {
          throw Problem(
            reason: "\(name) is \(value.kind), expected a tensor; a state dict may be the whole file or stand under "
              + "state_dict")
        }
        guard names.insert(name).inserted else { throw Problem(reason: "the state dict has \(name) twice") }
        found.append((name, tensors[tensor]))
      }
      guard !found.isEmpty else { throw Problem(reason: "its state dict is empty") }
      let prefix = "module."
      guard found.allSatisfy({ $0.name.hasPrefix(prefix) }) else { return found }
      return found.map { (String($0.name.dropFirst(prefix.count)), $0.tensor) }
    }
  }
}

// MARK: The archive

/// The contents of a file that torch.save has written: a zip archive with a pickle, and an entry for each storage.
struct PyTorchArchive {
  let unpickler: Unpickler
  private let entries: [String: Range<Int>]
  /// The name of the folder of all entries, with its slash.
  private let folder: String

  /// The limit on the pickle's size in bytes. It is far above any model's; a longer pickle is broken or hostile.
  private static let longestPickle = 1 << 24

  init(_ file: OpenFile) throws(PyTorchError) {
    let path = file.path
    func problem(_ reason: String) -> PyTorchError { PyTorchError(path: path, reason: reason) }
    func bytes(_ range: Range<Int>) throws(PyTorchError) -> [UInt8] {
      try PyTorchError.naming(path) { () throws(FileError) in
        try file.read(range.count, of: UInt8.self, at: range.lowerBound)
      }
    }
    let first = try bytes(0..<min(try PyTorchError.naming(path, file.size), 512))
    guard first.starts(with: [0x50, 0x4B, 0x03, 0x04]) else { throw problem(Self.otherFormat(first)) }
    let archive: ZipArchive
    do throws(ZipArchive.Failure) {
      archive = try ZipArchive(file)
    } catch {
      switch error {
      case .damaged(let reason): throw problem(reason)
      case .file(let error): throw PyTorchError(error, path: path)
      }
    }
    entries = archive.entries
    let pickles = entries.keys.filter { $0.hasSuffix("/data.pkl") && $0.split(separator: "/").count == 2 }
    guard let pickle = pickles.first, pickles.count == 1, let range = entries[pickle] else {
      throw problem(
        "it is a zip archive, but torch.save did not write it: it has \(pickles.count) entries NAME/data.pkl")
    }
    folder = String(pickle.dropLast("data.pkl".count))
    guard entries["\(folder)constants.pkl"] == nil else {
      throw problem(
        "it is a TorchScript program; in Python, if you trust it, save its weights: "
          + "torch.save(torch.jit.load(FILE, map_location=\"cpu\").state_dict(), NEW)")
    }
    if let name = archive.compressed {
      throw problem("its entry \(name) is compressed, which torch.save never does; unpack and save it again")
    }
    if let order = entries["\(folder)byteorder"] {
      let name = String(decoding: try bytes(order.prefix(16)), as: UTF8.self)
      guard name == "little" else { throw problem("its byte order is \(name); only little can be read") }
    }
    guard range.count <= Self.longestPickle else {
      throw problem("\(pickle) has \(range.count) bytes, more than the \(Self.longestPickle) allowed")
    }
    let program = try bytes(range)
    do throws(Unpickler.Problem) {
      unpickler = try Unpickler(program)
    } catch { throw problem("\(pickle): \(error.reason)") }
  }

  /// Returns the range of a storage's bytes in the file; nil if it has no entry.
  func data(of storage: PickleStorage) -> Range<Int>? { entries["\(folder)data/\(storage.key)"] }

  /// Returns the problem with a file that does not begin like a zip archive.
  private static func otherFormat(_ first: [UInt8]) -> String {
    // Before version 1.6 torch.save began a file with this pickled number, or wrote a tar archive.
    let isOld =
      first.starts(with: [0x80, 0x02, 0x8A, 0x0A, 0x6C, 0xFC, 0x9C, 0x46, 0xF9])
      || (first.count >= 262 && first[257..<262].elementsEqual("ustar".utf8))
    return isOld
      ? "it is in the format of torch.save before version 1.6; in Python, if you trust it, save it again: "
        + "torch.save(torch.load(FILE, map_location=\"cpu\"), NEW)"
      : "it is not a zip archive, which torch.save writes"
  }
}

// MARK: Views

/// A tensor in a PyTorch file: a strided view of its storage, checked against the storage's size.
struct PyTorchView: Sendable {
  let shape: [Int]
  /// The distance in the storage from one index to the next, in numbers, of each dimension.
  let strides: [Int]
  /// The number of elements of the tensor.
  let count: Int
  /// The stored numbers from the tensor's first to its last, including those in between that it skips.
  let numbers: StoredNumbers

  /// - Parameter bytes: the range of the storage in the file; nil if it is missing.
  init(_ tensor: PickleTensor, name: String, in bytes: Range<Int>?) throws(Unpickler.Problem) {
    func problem(_ reason: String) -> Unpickler.Problem { .init(reason: "tensor \(name): \(reason)") }
    let storage = tensor.storage
    guard let bytes else { throw problem("its storage data/\(storage.key) is missing") }
    guard storage.count <= bytes.count / storage.type.size else {
      throw problem(
        "its storage claims \(storage.count) numbers of \(storage.type.rawValue), data/\(storage.key) has "
          + "\(bytes.count) bytes")
    }
    // Every product and sum is checked for overflow before it is compared.
    var (count, last) = (1, tensor.offset)
    for (size, stride) in zip(tensor.shape, tensor.strides) {
      let (product, tooMany) = count.multipliedReportingOverflow(by: size)
      let (step, tooFar) = max(size - 1, 0).multipliedReportingOverflow(by: stride)
      let (sum, beyond) = last.addingReportingOverflow(step)
      guard !tooMany, !tooFar, !beyond else {
        throw problem("sizes \(tensor.shape) and strides \(tensor.strides) are too large")
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

  /// True if the elements are contiguous in row-major order.
  var isContiguous: Bool {
    guard count > 0 else { return true }
    var step = 1
    for (size, stride) in zip(shape, strides).reversed() where size != 1 {
      guard stride == step else { return false }
      step *= size
    }
    return true
  }

  /// Calls `body` with each element's row-major index and its index in `numbers`.
  func forEachIndex(_ body: (_ element: Int, _ stored: Int) -> Void) {
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

/// A PyTorch checkpoint that cannot be read.
public struct PyTorchError: FileFormatError, ExitCoded, Hashable, CustomStringConvertible {
  public let path: String
  /// The problem, with the expected and the found value.
  public let reason: String
  /// 65 if the file's contents are wrong, 74 if the system reports an error.
  public let status: ExitStatus

  public var description: String { "PyTorch file \(path): \(reason)" }
}
