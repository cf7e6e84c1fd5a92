internal import Foundation
public import Tensor

/// Weights in several safetensors files with an index, as Hugging Face stores large models.
///
/// The index is JSON, `{"metadata": {…}, "weight_map": {"name": "file.safetensors", …}}`, which maps each tensor to one
/// of the files beside it.
public struct ShardedSafetensors: NamedTensors {
  /// The ending of an index's file name.
  public static let ending = ".safetensors.index.json"
  /// The limit on the index's size in bytes. No real index comes near it.
  private static let longest = 100_000_000

  public let path: String
  public let names: [String]
  public let metadata: [String: String]
  private let files: [String: SafetensorsFile]

  /// The paths of the files that hold the numbers.
  public var parts: [String] { Set(files.values.map(\.path)).sorted() }

  /// Opens the index at `path` and every file that it names. Throws for files outside of its folder, for tensors that
  /// are not in the listed file, and for tensors that are missing from the index.
  public init(_ path: String) throws(SafetensorsError) {
    self.path = path
    let places = try Self.places(path)
    let folder = URL(filePath: path).deletingLastPathComponent()
    var files: [String: SafetensorsFile] = [:]
    var names: [String] = []
    var metadata: [String: String] = [:]
    for name in Set(places.map(\.file)).sorted() {
      let file = try SafetensorsFile(folder.appending(path: name).relativePath)
      metadata.merge(file.metadata) { first, _ in first }
      for tensor in file.names {
        guard files.updateValue(file, forKey: tensor) == nil else {
          throw SafetensorsError(path: path, reason: "the tensor \(tensor) is in more than one of its files")
        }
      }
      names += file.names
    }
    for (tensor, name) in places {
      guard let file = files[tensor], file.path == folder.appending(path: name).relativePath else {
        throw SafetensorsError(
          path: path, reason: "it lists the tensor \(tensor) in \(name), which does not contain it")
      }
    }
    let indexed = Set(places.map(\.tensor))
    if let other = names.first(where: { !indexed.contains($0) }) {
      throw SafetensorsError(path: path, reason: "its files hold the tensor \(other), which it does not list")
    }
    self.files = files
    self.names = names
    self.metadata = metadata
  }

  /// Returns the file of each tensor as listed in the index.
  private static func places(_ path: String) throws(SafetensorsError) -> [(tensor: String, file: String)] {
    let bytes = try SafetensorsError.naming(path) { () throws(FileError) in
      let file = try OpenFile.reading(path)
      return try file.read(min(try file.size(), longest + 1), of: UInt8.self, at: 0)
    }
    func problem(_ reason: String) -> SafetensorsError { SafetensorsError(path: path, reason: reason) }
    guard bytes.count <= longest else { throw problem("it has more than the \(longest) bytes allowed for an index") }
    let document: StrictJSON
    do throws(StrictJSON.Problem) {
      document = try StrictJSON.parse(bytes)
    } catch { throw problem("it is not JSON as expected: \(error)") }
    guard case .object(let members) = document,
      case .object(let map)? = members.first(where: { $0.key == "weight_map" })?.value
    else { throw problem("it has no object weight_map, which maps tensors to files") }
    guard !map.isEmpty else { throw problem("its weight_map is empty") }
    var places: [(tensor: String, file: String)] = []
    for member in map {
      guard case .string(let file) = member.value else {
        throw problem("it lists the tensor \(member.key) in \(member.value.kind), expected the name of a file")
      }
      // A path could name any file of this machine.
      guard file.hasSuffix(".safetensors"), !file.contains("/"), !file.contains("\0") else {
        throw problem(
          "it lists the tensor \(member.key) in \"\(file)\", expected the name of a safetensors file beside it")
      }
      places.append((member.key, file))
    }
    return places
  }

  public func contains(_ name: String) -> Bool { files[name] != nil }

  public func shape(of name: String) throws -> Shape { try file(of: name).shape(of: name) }

  public func type(of name: String) throws -> SafetensorsType { try file(of: name).type(of: name) }

  public func read<S: Scalar>(_ name: String, into tensor: Tensor<S>) throws {
    try file(of: name).read(name, into: tensor)
  }

  public func read<S: Scalar>(_ name: String, elements: Range<Int>, into tensor: Tensor<S>) throws {
    try file(of: name).read(name, elements: elements, into: tensor)
  }

  public func integers(_ name: String) throws -> [Int] { try file(of: name).integers(name) }

  private func file(of name: String) throws(SafetensorsError) -> SafetensorsFile {
    guard let file = files[name] else { throw SafetensorsError(path: path, reason: "it has no tensor \(name)") }
    return file
  }
}
