internal import Tensor

/// A file of embeddings that another program has computed: an archive of numpy's (`.npz`) or an HDF5 file. Its arrays:
///
///     keys        [n]                    the keys of samples, as the dataset has them
///     image       [n, d], [n, views, d]  the embeddings of their images
///     boxes       [n, 4], [n, views, 4]  left, top, right and bottom of the crops, as fractions of the image's sides
///     text        [m, e]                 the embeddings of captions
///     text_keys   [m]                    the keys of the captions' samples; keys if it is missing
///     logit_scale                        e^logit_scale, which multiplies cosines in softmaxes
///
/// Numbers and keys are read on demand.
public struct ForeignEmbeddings: Sendable {
  public let path: String
  let image: StoredTensor?
  let boxes: StoredTensor?
  let text: StoredTensor?
  /// The factor of cosines in softmaxes; nil if the file does not give it.
  let logitScale: Double?
  private let strings: [String: @Sendable () throws -> PackedStrings]

  private static let names = ["keys", "image", "boxes", "text", "text_keys", "logit_scale"]
  /// The factors that are plausible. Logarithms of those that models learn, which state dicts hold, lie below.
  private static let scales = 5.0...1000.0

  /// The arrays of a file by name: numbers, and strings, which are read when they are asked for.
  fileprivate struct Arrays {
    var numbers: [String: StoredTensor] = [:]
    var strings: [String: @Sendable () throws -> PackedStrings] = [:]
  }

  /// Opens a file. Throws unless it has these arrays alone, in shapes that fit each other.
  public init(_ path: String) throws {
    func require(_ fact: Bool, _ problem: @autoclosure () -> String) throws {
      if !fact { throw EmbeddingFileError(path: path, reason: problem()) }
    }
    let file = try EmbeddingFileError.opening(path)
    let size = try EmbeddingFileError.naming(path, file.size)
    let start = try EmbeddingFileError.bytes(0..<min(size, 8), of: file)
    let isArchive = start.starts(with: [0x50, 0x4B, 0x03, 0x04])
    try require(
      isArchive || start == [0x89, 0x48, 0x44, 0x46, 0x0D, 0x0A, 0x1A, 0x0A],
      "it is neither an archive that numpy.savez writes nor an HDF5 file")
    let arrays = try isArchive ? Self.numpy(file) : Self.hdf5(file)
    for name in Set(arrays.numbers.keys).union(arrays.strings.keys).sorted() {
      try require(
        Self.names.contains(name),
        "unknown array \(name); known are \(Self.names.joined(separator: ", ")): rename it, or leave it out")
      let isText = name.hasSuffix("keys")
      try require(
        (arrays.strings[name] != nil) == isText,
        isText ? "\(name) holds numbers, expected text: keys.astype(str)" : "\(name) holds text, expected numbers")
    }
    func array(_ name: String, _ form: String, _ holds: ([Int]) -> Bool) throws -> StoredTensor? {
      guard let array = arrays.numbers[name] else { return nil }
      try require(
        array.type.isFloatingPoint, "\(name) holds \(array.type.rawValue), expected floating-point numbers")
      try require(holds(array.shape), "\(name) has the shape \(array.shape), expected \(form)")
      try require(array.shape[0] <= Int32.max, "\(name) has \(array.shape[0]) rows; write several files")
      return array
    }
    let image = try array("image", "[samples, d] or [samples, views, d]") {
      2...3 ~= $0.count && !$0.dropFirst().contains(0)
    }
    let text = try array("text", "[captions, d]") { $0.count == 2 && $0[1] > 0 }
    try require(arrays.numbers["boxes"] == nil || image != nil, "boxes is there, and image is not")
    try require(arrays.strings["text_keys"] == nil || text != nil, "text_keys is there, and text is not")
    let shape = Array(image?.shape.dropLast() ?? []) + [4]
    let boxes = try array("boxes", "\(shape), four numbers for each embedding in image") { $0 == shape }
    try require(boxes?.type != .float16, "boxes holds F16, too coarse for pixels; expected F32 or F64")
    try require(image != nil || text != nil, "it has neither image nor text")
    try require(
      boxes != nil || image?.shape.count != 3 || image?.shape[1] == 1,
      "image has \(image?.shape[1] ?? 0) views and there are no boxes, so the student cannot be shown the same crops; "
        + "add boxes \(shape), or store one embedding for each image's central crop")
    try require(
      arrays.strings["keys"] != nil || image == nil && arrays.strings["text_keys"] != nil,
      "keys is missing: the key of the sample in each row")
    logitScale = try arrays.numbers["logit_scale"].map { array in
      try require(array.count == 1, "logit_scale has the shape \(array.shape), expected one number")
      let scale = try Self.number(array)
      try require(
        Self.scales ~= scale,
        "logit_scale is \(scale), expected e^logit_scale, the factor of cosines, from 5 to 1000, such as 100; if it is "
          + "the logarithm, which a state dict holds, store numpy.exp(logit_scale)")
      return scale
    }
    (self.path, self.image, self.boxes, self.text, strings) = (path, image, boxes, text, arrays.strings)
  }

  /// The number of embeddings of each image; nil without images.
  var views: Int? { image.map { $0.shape.count == 3 ? $0.shape[1] : 1 } }

  /// Returns the keys of the rows of `image`, or of `text`.
  func keys(ofTexts: Bool) throws -> PackedStrings {
    let name = ofTexts && strings["text_keys"] != nil ? "text_keys" : "keys"
    guard let read = strings[name] else { preconditionFailure("a file without \(name)") }
    let (keys, rows) = (try read(), (ofTexts ? text : image)?.shape[0] ?? 0)
    guard keys.count == rows else {
      throw EmbeddingFileError(
        path: path,
        reason: "\(name) has \(keys.count) entries and \(ofTexts ? "text" : "image") \(rows) rows, expected as many"
          + (ofTexts && name == "keys" ? "; give the captions' keys in text_keys" : ""))
    }
    return keys
  }

  private static func number(_ array: StoredTensor) throws -> Double {
    guard array.type.isFloatingPoint else { return Double(try array.integers()[0]) }
    let value = Tensor<Double>(Shape(1))
    try array.read(0..<1, into: value)
    return value[0]
  }
}

// MARK: HDF5

extension ForeignEmbeddings {
  private static func hdf5(_ file: OpenFile) throws -> Arrays {
    let path = file.path
    do {
      let library = try HDF5File.open(path)
      defer { try? library.close() }
      var arrays = Arrays()
      for name in try library.names() {
        if try library.holdsStrings(name) {
          arrays.strings[name] = { try HDF5File.open(path).strings(name) }
          continue
        }
        let found = try library.dataset(name)
        // Numbers in the header of a data set have no place of their own in the file.
        let offset = found.fileOffset ?? (found.count == 0 ? 0 : nil)
        guard let type = HDF5Weights.safetensorsType(of: found.type), let offset else {
          throw EmbeddingFileError(
            path: path, reason: "\(name) holds \(found.type.rawValue) or is stored in its header; write it contiguous")
        }
        arrays.numbers[name] = StoredTensor(
          name: name, type: type, shape: found.shape, strides: nil, file: file, offset: offset, span: found.count,
          format: EmbeddingFileError.self)
      }
      return arrays
    } catch let error as HDF5Error {
      let advice = error.call == "check" ? "; write it as h5py does by default, neither chunked nor compressed" : ""
      throw EmbeddingFileError(
        path: path, reason: "\(error.object ?? error.call): \(error.cause)\(advice)", status: error.status)
    }
  }
}

// MARK: numpy

extension ForeignEmbeddings {
  private static let types: [String: SafetensorsType] = [
    "<f2": .float16, "<f4": .float32, "<f8": .float64, "<i4": .int32, "<i8": .int64,
  ]

  private static func numpy(_ file: OpenFile) throws -> Arrays {
    func problem(_ reason: String) -> EmbeddingFileError { EmbeddingFileError(path: file.path, reason: reason) }
    let archive: ZipArchive
    do throws(PyTorchError) { archive = try ZipArchive(file) } catch {
      throw EmbeddingFileError(path: file.path, reason: error.reason, status: error.status)
    }
    if let name = archive.compressed {
      throw problem("its array \(name) is compressed, so its rows cannot be read one by one; write it with numpy.savez")
    }
    var arrays = Arrays()
    for (entry, range) in archive.entries {
      let name = entry.hasSuffix(".npy") ? String(entry.dropLast(4)) : entry
      let end = min(range.upperBound, range.lowerBound + NumpyHeader.longest)
      let front = try EmbeddingFileError.bytes(range.lowerBound..<end, of: file)
      let header: NumpyHeader
      do throws(NumpyHeader.Problem) { header = try NumpyHeader(front) } catch {
        throw problem("its array \(name) \(error.reason)")
      }
      let (offset, bytes) = (range.lowerBound + header.length, range.count - header.length)
      guard let size = header.itemSize, size > 0, let count = header.shape.product(),
        header.shape.product(size) == bytes
      else {
        throw problem("its array \(name) has \(bytes) bytes, expected \(header.type) of the shape \(header.shape)")
      }
      if let type = types[header.type] {
        arrays.numbers[name] = StoredTensor(
          name: name, type: type, shape: header.shape, strides: nil, file: file, offset: offset, span: count,
          format: EmbeddingFileError.self)
      } else if header.isText {
        guard header.shape.count == 1 else {
          throw problem("its array \(name) has the shape \(header.shape), expected one dimension")
        }
        let isWide = header.isWide
        arrays.strings[name] = { try readStrings(file, name, at: offset, count: count, size: size, isWide: isWide) }
      } else {
        let known = types.keys.sorted().joined(separator: ", ")
        throw problem("its array \(name) holds \(header.type), expected \(known), or text (<U, |S) for keys")
      }
    }
    return arrays
  }

  /// Reads strings of `size` bytes each, filled up with zeros: UTF-8, or if they are wide, UTF-32.
  private static func readStrings(
    _ file: OpenFile, _ name: String, at offset: Int, count: Int, size: Int, isWide: Bool
  ) throws -> PackedStrings {
    var (bytes, offsets): ([UInt8], [UInt64]) = ([], [0])
    let piece = 4096
    for first in stride(from: 0, to: count, by: piece) {
      let rows = min(piece, count - first)
      let start = offset + first * size
      let data = try EmbeddingFileError.bytes(start..<start + rows * size, of: file)
      for row in 0..<rows {
        let item = data[row * size..<(row + 1) * size]
        if isWide {
          var text = ""
          for at in stride(from: item.startIndex, to: item.endIndex, by: 4) {
            let value = UInt32(data.little(4, at: at))
            guard value != 0 else { break }
            guard let scalar = Unicode.Scalar(value) else {
              throw EmbeddingFileError(path: file.path, reason: "row \(first + row) of \(name) is not Unicode")
            }
            text.unicodeScalars.append(scalar)
          }
          bytes.append(contentsOf: text.utf8)
        } else {
          bytes.append(contentsOf: item.prefix { $0 != 0 })
        }
        offsets.append(UInt64(bytes.count))
      }
    }
    guard let packed = PackedStrings(bytes: bytes, offsets: offsets) else {
      throw EmbeddingFileError(path: file.path, reason: "\(name) has more than 4 GiB; write several files")
    }
    return packed
  }
}

/// The header of an array that numpy has saved: a signature, the length of a text, and the text, a Python dictionary.
struct NumpyHeader {
  /// The most bytes that a header has.
  static let longest = 65_536 + 12
  /// The type as numpy names it: byte order, kind and size.
  let type: String
  let shape: [Int]
  /// The number of bytes before the numbers.
  let length: Int

  struct Problem: Error { let reason: String }

  /// Parses the first bytes of an array, at least all of its header.
  init(_ bytes: [UInt8]) throws(Problem) {
    guard bytes.count >= 12, bytes.starts(with: [0x93] + Array("NUMPY".utf8)) else {
      throw Problem(reason: "was not saved by numpy")
    }
    let width = bytes[6] == 1 ? 2 : 4
    let end = 8 + width + Int(bytes.little(width, at: 8))
    guard end <= bytes.count else { throw Problem(reason: "has a header of \(end) bytes, more than it may have") }
    let text = String(decoding: bytes[(8 + width)..<end], as: UTF8.self)
    guard let type = text.firstMatch(of: /'descr': *'([^']*)'/),
      let sizes = text.firstMatch(of: /'shape': *\(([^)]*)\)/)
    else { throw Problem(reason: "is none of plain numbers or text") }
    let parts = sizes.1.split { $0 == "," || $0 == " " }
    let shape = parts.compactMap { Int($0) }
    guard shape.count == parts.count, shape.allSatisfy({ $0 >= 0 }) else {
      throw Problem(reason: "has the shape (\(sizes.1))")
    }
    guard !text.contains("'fortran_order': True") else {
      throw Problem(reason: "is stored column by column; save numpy.ascontiguousarray of it")
    }
    guard !type.1.hasPrefix("|O") else {
      throw Problem(reason: "holds Python objects; save numpy.array(keys, dtype=str)")
    }
    guard !type.1.hasPrefix(">") else { throw Problem(reason: "is big-endian; save it little-endian") }
    (self.type, self.shape, length) = (String(type.1), shape, end)
  }

  /// True for text in UTF-32.
  var isWide: Bool { type.hasPrefix("<U") }
  var isText: Bool { isWide || type.hasPrefix("|S") }
  /// The bytes of one element; nil if the type does not say it.
  var itemSize: Int? {
    guard let count = Int(type.dropFirst(2)), 0...1 << 20 ~= count else { return nil }
    return isWide ? 4 * count : count
  }
}

/// A file of embeddings that cannot be used.
public struct EmbeddingFileError: FileFormatError, ExitCoded, Hashable, CustomStringConvertible {
  public let path: String
  /// The problem, with the expected and the found value.
  public let reason: String
  /// 65 if the file's contents are wrong, 74 if the system reports an error.
  public let status: ExitStatus
  public var description: String { "embeddings \(path): \(reason)" }
}
