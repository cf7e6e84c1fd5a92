internal import Foundation
public import Tensor

/// Weights in several safetensors files with an index, as Hugging Face stores large models: JSON that maps each tensor
/// to one of the files beside it, `{"metadata": {…}, "weight_map": {"name": "file.safetensors", …}}`.
public struct ShardedSafetensors: NamedTensors {
  /// The ending of an index's file name.
  public static let ending = ".safetensors.index.json"
  /// The limit on the index's size in bytes. No real index comes near it.
  private static let longest = 100_000_000

  public let path: String
  public private(set) var names: [String] = []
  public private(set) var metadata: [String: String] = [:]
  private var files: [String: SafetensorsFile] = [:]

  /// The files that hold the numbers, by their names.
  public private(set) var parts: [SafetensorsFile] = []

  /// Opens the index at `path` and every file that it names. Throws for files outside of its folder, for tensors that
  /// are not in the listed file, and for tensors that are missing from the index.
  public init(_ path: String) throws(SafetensorsError) {
    func problem(_ reason: String) -> SafetensorsError { SafetensorsError(path: path, reason: reason) }
    self.path = path
    let places = try Self.places(path)
    let folder = URL(filePath: path).deletingLastPathComponent()
    for name in Set(places.map(\.file)).sorted() {
      let file = try SafetensorsFile(folder.appending(path: name).relativePath)
      parts.append(file)
      metadata.merge(file.metadata) { first, _ in first }
      names += file.names
      for tensor in file.names {
        guard files.updateValue(file, forKey: tensor) == nil else {
          throw problem("the tensor \(tensor) is in more than one of its files")
        }
      }
    }
    for (tensor, name) in places where files[tensor]?.path != folder.appending(path: name).relativePath {
      throw problem("it lists the tensor \(tensor) in \(name), which does not contain it")
    }
    let listed = Set(places.map(\.tensor))
    if let other = names.first(where: { !listed.contains($0) }) {
      throw problem("its files hold the tensor \(other), which it does not list")
    }
  }

  /// Returns the file of each tensor as listed in the index.
  private static func places(_ path: String) throws(SafetensorsError) -> [(tensor: String, file: String)] {
    func problem(_ reason: String) -> SafetensorsError { SafetensorsError(path: path, reason: reason) }
    let index = try SafetensorsError.opening(path)
    let size = try SafetensorsError.naming(path, index.size)
    guard size <= longest else { throw problem("it has more than the \(longest) bytes allowed for an index") }
    let bytes = try SafetensorsError.bytes(0..<size, of: index)
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
      let listed = "it lists the tensor \(member.key) in"
      guard case .string(let file) = member.value else {
        throw problem("\(listed) \(member.value.kind), expected the name of a file")
      }
      // A path could name any file of this machine.
      guard file.hasSuffix(".safetensors"), !file.contains("/"), !file.contains("\0") else {
        throw problem("\(listed) \"\(file)\", expected the name of a safetensors file beside it")
      }
      places.append((member.key, file))
    }
    return places
  }

  public func contains(_ name: String) -> Bool { files[name] != nil }
  public func stored(_ name: String) throws -> StoredTensor { try file(of: name).stored(name) }
  public func integers(_ name: String) throws -> [Int] { try file(of: name).integers(name) }

  /// Verifies each of the files; the result is true if all of them have a checksum.
  @discardableResult
  public func verify(having values: (_ name: String) -> Tensor<Float>?) throws(SafetensorsError) -> Bool {
    var isVerified = true
    for part in parts { isVerified = try part.verify(having: values) && isVerified }
    return isVerified
  }

  private func file(of name: String) throws(SafetensorsError) -> SafetensorsFile {
    if let file = files[name] { return file }
    throw SafetensorsError(path: path, reason: "it has no tensor \(name)")
  }
}
