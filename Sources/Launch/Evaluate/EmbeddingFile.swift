import Dist
import Foundation
import Tensor

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

    /// Without the rows of these numbers, which are in order.
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
  let corpus: String?
  /// How many pictures could not be read.
  let leftOut: Int
  let parts: [Rows]

  /// Whether a file of this name has JSON lines: - is standard output.
  static func isText(_ path: String) -> Bool { path == "-" || path.hasSuffix(".jsonl") }

  /// Under another name first, so that a file that is there is whole.
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
    if let corpus { try file.attributes.set("corpus", corpus) }
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

  /// `{"kind": "image", "name": "fox.jpg", "embedding": [0.5, …]}`, many lines at once; a number reads back as the very
  /// same 32-bit float.
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
