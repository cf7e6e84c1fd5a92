internal import Tensor

/// An open PyTorch checkpoint: the zip archive that torch.save (since version 1.6) writes of a state dict, or of a
/// dictionary with one under `state_dict`.
///
/// The unpickler can build tensors and nothing else, so a checkpoint cannot run code. Numbers are read on demand.
public struct PyTorchFile: NamedTensors {
  public let path: String
  /// The names of the tensors, in the order of the state dict.
  public let names: [String]
  /// The names of entries with sizes of the model, as tensors or numbers, that OpenAI's state dicts have beside its
  /// weights. Nothing reads them, because the shapes of the weights show the same.
  public static let sizes: Set<String> = ["input_resolution", "context_length", "vocab_size"]
  /// This is always empty, because a PyTorch checkpoint has no metadata.
  public var metadata: [String: String] { [:] }
  private let tensors: [String: StoredTensor]

  /// Opens `path`. Throws for an archive with inconsistent entries, for a pickle that does more than describe tensors,
  /// and for tensors that reach beyond their storage.
  public init(_ path: String) throws(PyTorchError) {
    self.path = path
    let file = try PyTorchError.opening(path)
    let archive = try PyTorchArchive(file)
    do throws(Unpickler.Problem) {
      let found = try archive.unpickler.stateDict()
      var tensors: [String: StoredTensor] = [:]
      for (name, tensor) in found {
        tensors[name] = try StoredTensor(tensor, named: name, in: archive.data(of: tensor.storage), of: file)
      }
      self.tensors = tensors
      names = found.map(\.name)
    } catch { throw PyTorchError(path: path, reason: error.reason) }
  }

  public func contains(_ name: String) -> Bool { tensors[name] != nil }

  public func stored(_ name: String) throws -> StoredTensor {
    guard let tensor = tensors[name] else { throw PyTorchError(missing: name, in: self) }
    return tensor
  }
}

/// The contents of a file that torch.save has written: a zip archive with a pickle, and an entry for each storage.
struct PyTorchArchive {
  let unpickler: Unpickler
  private let entries: [String: Range<Int>]
  /// The name of the folder of all entries, with its slash.
  private let folder: String
  /// The limit on the pickle's size in bytes. It is far above any model's; a longer pickle is broken or hostile.
  private static let longestPickle = 1 << 22

  init(_ file: OpenFile) throws(PyTorchError) {
    func problem(_ reason: String) -> PyTorchError { PyTorchError(path: file.path, reason: reason) }
    func bytes(_ range: Range<Int>) throws(PyTorchError) -> [UInt8] { try PyTorchError.bytes(range, of: file) }
    let first = try bytes(0..<min(try PyTorchError.naming(file.path, file.size), 512))
    guard first.starts(with: [0x50, 0x4B, 0x03, 0x04]) else { throw problem(Self.otherFormat(first)) }
    let archive = try ZipArchive(file)
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
    let isTar = first.count >= 262 && first[257..<262].elementsEqual("ustar".utf8)
    return isTar || first.starts(with: [0x80, 0x02, 0x8A, 0x0A, 0x6C, 0xFC, 0x9C, 0x46, 0xF9])
      ? "it is in the format of torch.save before version 1.6; in Python, if you trust it, save it again: "
        + "torch.save(torch.load(FILE, map_location=\"cpu\"), NEW)"
      : "it is not a zip archive, which torch.save writes; other formats end in .safetensors, .h5 or .hdf5"
  }
}

extension StoredTensor {
  /// Creates a view of a storage in the range `bytes`, nil if it is missing, and checks it against the storage's size.
  init(
    _ tensor: PickleTensor, named name: String, in bytes: Range<Int>?, of file: OpenFile
  ) throws(Unpickler.Problem) {
    func problem(_ reason: String) -> Unpickler.Problem { .init("tensor \(name): \(reason)") }
    let (storage, shape, strides) = (tensor.storage, tensor.shape, tensor.strides)
    let size = storage.type.size
    guard let bytes else { throw problem("its storage data/\(storage.key) is missing") }
    guard storage.count <= bytes.count / size else {
      throw problem(
        "its storage claims \(storage.count) numbers of \(storage.type.rawValue), data/\(storage.key) has "
          + "\(bytes.count) bytes")
    }
    let reach = zip(shape, strides).reduce(Checked(tensor.offset)) { $0 + Checked(max($1.0 - 1, 0)) * Checked($1.1) }
    guard let count = shape.product(), let last = reach.value else {
      throw problem("sizes \(shape) and strides \(strides) are too large")
    }
    guard count == 0 || last < storage.count else {
      throw problem(
        "offset \(tensor.offset), sizes \(shape) and strides \(strides) reach beyond its storage of \(storage.count) "
          + "numbers")
    }
    // Elements in row-major order without gaps, or none, need no strides.
    var step = 1
    var isContiguous = true
    for (size, stride) in zip(shape, strides).reversed() where size != 1 && count > 0 {
      if stride != step { isContiguous = false }
      step *= size
    }
    let offset = count == 0 ? 0 : tensor.offset
    self.init(
      name: name, type: storage.type, shape: shape, strides: isContiguous ? nil : strides, file: file,
      offset: bytes.lowerBound + offset * size, span: count == 0 ? 0 : last - offset + 1, format: PyTorchError.self)
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
