import Dist
import Foundation
import Tensor

/// The image files and texts that `kinship embed` encodes.
struct EmbeddingItems: Codable, Equatable {
  var images: [String] = []
  var texts: [String] = []

  /// Returns the same items on every rank. Only rank 0 searches for them: it alone has standard input, and a folder may
  /// change while ranks search.
  static func agreed(
    over communicator: Communicator, _ find: () throws -> EmbeddingItems
  ) throws -> EmbeddingItems {
    try communicator.broadcast(find)
  }

  /// Returns the images that a name stands for: a file; the images in a folder and those below it, in the order of
  /// their paths' bytes; or all files that match a pattern with *, ? or [ ], in that order.
  static func images(_ name: String) throws -> [String] {
    if let isFolder = UserFiles.isFolder(name) { return isFolder ? try images(inFolder: name) : [name] }
    // A file that does not exist is reported later, like any image that cannot be read.
    guard name.contains(where: { "*?[".contains($0) }) else { return [name] }
    let matches = matches(name)
    guard !matches.isEmpty else { throw UserError(name, "expected files that the pattern matches, found nothing") }
    return try matches.flatMap { try UserFiles.isFolder($0) == true ? images(inFolder: $0) : [$0] }
  }

  private static func images(inFolder folder: String) throws -> [String] {
    let images = try FolderSource.list(folder).images
    guard !images.isEmpty else {
      let endings = FolderSource.extensions.sorted().joined(separator: ", ")
      throw UserError(folder, "expected images (\(endings)), found nothing")
    }
    return images.map { (folder.hasSuffix("/") ? folder : folder + "/") + $0 }
  }

  /// Expands a pattern as a shell does.
  private static func matches(_ pattern: String) -> [String] {
    var found = unsafe glob_t()
    defer { unsafe globfree(&found) }
    guard unsafe glob(pattern, 0, nil, &found) == 0 else { return [] }
    return (0..<Int(unsafe found.gl_pathc)).compactMap { index in
      unsafe found.gl_pathv[index].map { unsafe String(cString: $0) }
    }
  }
}

/// Embeddings with their names, as `kinship embed` writes them.
struct EmbeddingFile {
  /// The rows of one kind: image or text.
  struct Rows {
    let kind: String
    let names: [String]
    /// [names, d].
    let rows: Tensor<Float>

    init(_ kind: String, _ names: [String], _ rows: Tensor<Float>) {
      (self.kind, self.names, self.rows) = (kind, names, rows)
    }

    /// Returns these rows without those of the given numbers.
    func without(_ numbers: [Int]) -> Rows {
      guard !numbers.isEmpty else { return self }
      let dropped = Set(numbers)
      let kept = names.indices.filter { !dropped.contains($0) }
      let rest = Tensor<Float>(Shape(kept.count, rows.columns))
      for (place, row) in kept.enumerated() { copy(rows.rows(row..<row + 1), into: rest.rows(place..<place + 1)) }
      return Rows(kind, kept.map { names[$0] }, rest)
    }
  }

  let model: String
  let logitScale: Double
  let dataset: String?
  /// The number of images that could not be read.
  let leftOut: Int
  let parts: [Rows]

  /// Returns whether a file of this name has JSON lines. The name - stands for standard output.
  static func isText(_ path: String) -> Bool { path == "-" || path.hasSuffix(".jsonl") }

  /// Writes the file under another name first, so that a file with the final name is complete.
  func write(to path: String) throws {
    if path == "-" {
      for part in parts { try eachLine(of: part) { try FileHandle.standardOutput.write(contentsOf: Data($0)) } }
      return
    }
    let partial = path + ".partial"
    try Publish.removeAll(partial)
    if Self.isText(path) {
      let file = try OpenFile.creating(partial)
      for part in parts { try eachLine(of: part) { try file.append($0) } }
    } else {
      try writeHDF5(partial)
    }
    try Publish.sync(file: partial)
    try Publish.rename(partial, to: path)
  }

  private func writeHDF5(_ path: String) throws {
    let file = try HDF5File.create(path)
    try file.attributes.set("model", model)
    try file.attributes.set("logit_scale", logitScale)
    if let dataset { try file.attributes.set("corpus", dataset) }
    if leftOut > 0 { try file.attributes.set("left_out", leftOut) }
    for part in parts {
      try file.createDataset(part.kind, .float32, shape: part.rows.shape.array).write(part.rows)
      let names = part.names.map { Array($0.utf8) }
      let offsets = names.reduce(into: [UInt64(0)]) { $0.append(($0.last ?? 0) + UInt64($1.count)) }
      let bytes = Array(names.joined())
      try file.createDataset(part.kind + "_names/bytes", .uint8, shape: [bytes.count]).write(bytes)
      try file.createDataset(part.kind + "_names/offsets", .uint64, shape: [offsets.count]).write(offsets)
    }
    try file.close()
  }

  /// Calls `write` with lines such as `{"kind": "image", "name": "fox.jpg", "embedding": [0.5, …]}`, many together. A
  /// number reads back as exactly the same 32-bit float.
  private func eachLine(of part: Rows, _ write: ([UInt8]) throws -> Void) throws {
    var lines: [UInt8] = []
    for (row, name) in part.names.enumerated() {
      let start = row * part.rows.columns
      let numbers = (0..<part.rows.columns).map { "\(part.rows[start + $0])" }.joined(separator: ", ")
      lines += "{\"kind\": \"\(part.kind)\", \"name\": \(StrictJSON.quote(name)), \"embedding\": [\(numbers)]}\n".utf8
      guard lines.count > 1 << 20 || row == part.names.count - 1 else { continue }
      try write(lines)
      lines.removeAll(keepingCapacity: true)
    }
  }
}
