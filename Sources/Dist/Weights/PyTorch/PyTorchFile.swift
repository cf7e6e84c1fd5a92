public import Tensor

/// An open PyTorch checkpoint: the zip archive that torch.save writes (since version 1.6) of a state dict, bare or
/// under `state_dict`, whose names may begin with `module.`.
///
/// Its pickle is read by an unpickler that can build tensors and nothing else; numbers are read when they are asked
/// for.
public struct PyTorchFile: NamedTensors {
  public let path: String
  /// In the order of the state dict, without `module.`.
  public let names: [String]
  /// A pickle says nothing of this kind.
  public var metadata: [String: String] { [:] }

  private let file: OpenFile
  private let views: [String: PyTorchView]

  /// Opens `path`. An archive that lies about its entries, a pickle that does more than describe tensors, and tensors
  /// that reach beyond their storage are refused.
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
      view.forEachPlace { at, from in
        if elements.contains(at) { tensor[at - elements.lowerBound] = span[from] }
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
    // An expanded tensor may have any number of elements; nobody has a use for more than the file holds.
    try check(view, name, wanted: min(view.count, span.count), shape: "at most \(span.count) numbers")
    var values = [Int](repeating: 0, count: view.count)
    view.forEachPlace { values[$0] = span[$1] }
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
  /// The tensors of the state dict: the result of the pickle, or what it has under `state_dict`.
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
            reason: "\(name) is \(value.kind), expected a tensor; a state dict may stand alone or under state_dict")
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
