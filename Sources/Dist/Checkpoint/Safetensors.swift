public import Foundation
public import Tensor

/// An open safetensors file: named tensors, as open_clip and Hugging Face store weights.
///
/// Opening a file reads and checks its header. Numbers are read on demand, in pieces, from any thread.
public struct SafetensorsFile: NamedTensors {
  public let path: String
  /// The strings that the writer of the file added, without the digest.
  public let metadata: [String: String]
  /// The tensors' names, in the order of their bytes in the file.
  public let names: [String]

  private let tensors: [String: StoredTensor]
  private let file: OpenFile
  /// The offset of the first number in the file, in bytes.
  private let start: Int
  /// The text of the digest in the metadata; nil in files of other programs.
  private let digest: String?
  /// How many bytes are read at a time to be hashed.
  private static let block = 1 << 20

  public init(_ url: URL) throws(SafetensorsError) { try self.init(url.path(percentEncoded: false)) }

  /// Opens the file `path`. Throws if the header does not fit the file's size, or if tensors overlap or leave holes.
  public init(_ path: String) throws(SafetensorsError) {
    self.path = path
    do {
      let file = try OpenFile.reading(path)
      let size = try file.size()
      let start = 8 + (try SafetensorsHeader.length(file.read(min(8, size), of: UInt8.self, at: 0), fileSize: size))
      let header = try SafetensorsHeader(file.read(start - 8, of: UInt8.self, at: 8), dataSize: size - start)
      var metadata = header.metadata
      digest = SafetensorsDigest.take(from: &metadata)
      self.metadata = metadata
      names = header.entries.map(\.name)
      tensors = header.entries.reduce(into: [:]) { tensors, entry in
        tensors[entry.name] = StoredTensor(
          name: entry.name, type: entry.type, shape: entry.shape, strides: nil, file: file,
          offset: start + entry.range.lowerBound, span: entry.range.count / entry.type.size,
          format: SafetensorsError.self)
      }
      self.file = file
      self.start = start
    } catch let error as FileError {
      throw SafetensorsError(error, path: path)
    } catch { throw SafetensorsError(path: path, reason: "\(error)") }
  }

  public func contains(_ name: String) -> Bool { tensors[name] != nil }

  public func stored(_ name: String) throws(SafetensorsError) -> StoredTensor {
    guard let tensor = tensors[name] else { throw SafetensorsError(missing: name, in: self) }
    return tensor
  }

  /// Returns a tensor of floating-point numbers in a new arena. F16, BF16, F32 and F64 are converted to `S`, rounded to
  /// nearest if it is narrower. Throws for integers.
  public func tensor<S: Scalar>(_ name: String, as _: S.Type = S.self) throws -> Tensor<S> {
    let tensor = Tensor<S>(try shape(of: name))
    try read(name, into: tensor)
    return tensor
  }

  /// Returns the numbers of an integer tensor in row-major order. Booleans are 0 or 1.
  public func integers(_ name: String) throws -> [Int] {
    let tensor = try stored(name)
    let values = try tensor.integers()
    if tensor.type == .bool, let other = values.first(where: { $0 > 1 }) {
      throw tensor.problem("holds the boolean \(other), expected 0 or 1")
    }
    return values
  }

  /// Returns the SHA-256 of the whole file in hexadecimal digits, and verifies the file as `verify` does. A tensor of
  /// 32-bit floats that was read before, and that `values` returns unchanged, is not read again.
  public func sha256(having values: (_ name: String) -> Tensor<Float>?) throws(SafetensorsError) -> String {
    let front = try SafetensorsError.bytes(0..<start, of: file)
    var hasher = SHA256()
    hasher.update(front)
    try unsafe verify(front, values) { unsafe hasher.update($0) }
    return hasher.finalize().hexadecimal
  }

  @discardableResult
  public func verify(having values: (_ name: String) -> Tensor<Float>?) throws(SafetensorsError) -> Bool {
    guard digest != nil else { return false }
    try unsafe verify(SafetensorsError.bytes(0..<start, of: file), values) { _ in }
    return true
  }

  /// Calls `body` with the bytes of all numbers, which follow `front` in the file, and compares the digest.
  @unsafe private func verify(
    _ front: [UInt8], _ values: (_ name: String) -> Tensor<Float>?, _ body: (UnsafeRawBufferPointer) -> Void
  ) throws(SafetensorsError) {
    var hasher = SHA256()
    if let digest { hasher.update(SafetensorsDigest.blanked(digest, in: front)) }
    let isDigested = digest != nil
    var bytes: [UInt8] = []
    // The names are in the order of the tensors' bytes, which leave no holes.
    for name in names {
      let stored = try stored(name)
      if stored.type == .float32, let tensor = values(name) {
        precondition(tensor.count == stored.count, "\(name) of \(stored.shape) is not \(tensor.shape)")
        // Every processor that we build for has the file's byte order.
        unsafe tensor.withUnsafeMutableBuffer { buffer in
          if isDigested { unsafe hasher.update(UnsafeRawBufferPointer(buffer)) }
          unsafe body(UnsafeRawBufferPointer(buffer))
        }
        continue
      }
      let end = stored.offset + stored.span * stored.type.size
      for at in stride(from: stored.offset, to: end, by: Self.block) {
        try SafetensorsError.naming(path) { () throws(FileError) in
          try file.read(min(Self.block, end - at), at: at, into: &bytes)
        }
        if isDigested { hasher.update(bytes) }
        unsafe bytes.withUnsafeBytes(body)
      }
    }
    guard let digest else { return }
    let found = hasher.finalize().hexadecimal
    guard digest == SafetensorsDigest.text(found) else {
      throw SafetensorsError(
        path: path,
        reason: "it was altered or is damaged: its \(SafetensorsDigest.key) is \(found), its metadata has "
          + "\(digest.suffix(found.count)); copy or write it again, or, if the change was intended, without this entry")
    }
  }
}

/// A safetensors file that cannot be read or written.
public struct SafetensorsError: FileFormatError, ExitCoded, Hashable, CustomStringConvertible {
  public let path: String
  /// The problem, with the expected and the found value.
  public let reason: String
  /// 65 if the file's contents are wrong, 74 if the system reports an error.
  public let status: ExitStatus

  public var description: String { "safetensors file \(path): \(reason)" }
}
