import Dist
import Foundation
import Model
import Tensor

/// Embeddings with their names, as `kinship embed` writes them. The ranks hold them together, and rank 0 writes them a
/// tile at a time.
struct EmbeddingFile {
  struct Rows {
    let kind: String
    let names: [String]
    /// [names, d].
    let rows: DistributedRows
    /// The numbers of the rows that are not written, rising.
    var leftOut: [Int] = []

    private static let tile = 8192
    var count: Int { names.count - leftOut.count }
    fileprivate var tiles: [Range<Int>] {
      stride(from: 0, to: names.count, by: Self.tile).map { $0..<min($0 + Self.tile, names.count) }
    }

    /// Returns the ranges between the rows of a tile that are left out.
    fileprivate func written(of tile: Range<Int>) -> [Range<Int>] {
      var next = tile.lowerBound
      return (leftOut.filter { tile.contains($0) } + [tile.upperBound]).map { end in
        defer { next = end + 1 }
        return next..<end
      }
    }
  }

  let model: String
  let logitScale: Double
  let dataset: String?
  /// How transparent pixels became opaque.
  let alpha: AlphaHandling
  /// The number of images that could not be read.
  let leftOut: Int
  let parts: [Rows]
  /// Returns whether a file of this name has JSON lines. The name - stands for standard output.
  static func isText(_ path: String) -> Bool { path == "-" || path.hasSuffix(".jsonl") }

  /// Writes the file on rank 0, under another name first, so that a file with the final name is complete. Every rank
  /// must call it.
  func write(to path: String, over ranks: Communicator) throws {
    guard ranks.rank == 0 else { return try write(over: ranks) { nil } }
    guard path != "-" else { return try write(over: ranks) { EmbeddingLines(write: StandardOutput.write) } }
    try Publish.creating(path) { temporary in
      try write(over: ranks) {
        guard Self.isText(path) else { return try EmbeddingHDF5(temporary, self) }
        let file = try OpenFile.creating(temporary)
        return EmbeddingLines { try file.append($0) }
      }
    }
  }

  /// Sends all rows to rank 0, which writes them to what `open` returns there, and ends that.
  private func write(over ranks: Communicator, open: () throws -> (any EmbeddingOutput)?) throws {
    let output = try ranks.together(open)
    // The other ranks hand over their rows even if rank 0 can no longer write them.
    var failure: (any Error)?
    for part in parts {
      for tile in part.tiles {
        guard let rows = try part.rows.gather(tile), failure == nil else { continue }
        do {
          for range in part.written(of: tile) {
            let own = range.lowerBound - tile.lowerBound..<range.upperBound - tile.lowerBound
            try output?.append(part, part.names[range], rows.rows(own))
          }
        } catch { failure = error }
      }
    }
    if let failure { throw failure }
    try output?.finish()
  }
}

/// What embeddings are written to, some rows of a part at a time.
private protocol EmbeddingOutput: AnyObject {
  func append(_ part: EmbeddingFile.Rows, _ names: ArraySlice<String>, _ rows: Tensor<Float>) throws
  func finish() throws
}

/// Lines such as `{"kind": "image", "name": "fox.jpg", "embedding": [0.5, …]}`; numbers read back exactly.
private final class EmbeddingLines: EmbeddingOutput {
  private let write: ([UInt8]) throws -> Void
  private var lines: [UInt8] = []

  init(write: @escaping ([UInt8]) throws -> Void) { self.write = write }

  func append(_ part: EmbeddingFile.Rows, _ names: ArraySlice<String>, _ rows: Tensor<Float>) throws {
    for (row, name) in names.enumerated() {
      let start = row * rows.columns
      let numbers = (0..<rows.columns).map { "\(rows[start + $0])" }.joined(separator: ", ")
      lines +=
        "{\"kind\": \"\(part.kind)\", \"name\": \(StrictJSON.quote(name)), \"embedding\": [\(numbers)]}\n".utf8
      if lines.count > 1 << 20 { try flush() }
    }
  }

  func finish() throws { try flush() }

  private func flush() throws {
    if !lines.isEmpty { try write(lines) }
    lines.removeAll(keepingCapacity: true)
  }
}

/// An HDF5 file with a data set for each part, and its names.
private final class EmbeddingHDF5: EmbeddingOutput {
  private struct Part {
    let rows: HDF5Dataset
    var names: [UInt8] = []
    /// Where each name begins in `names`, and the end of the last.
    var offsets: [UInt64] = [0]
  }

  private let file: HDF5File
  /// The parts by their kinds.
  private var parts: [String: Part] = [:]

  init(_ path: String, _ contents: EmbeddingFile) throws {
    file = try HDF5File.create(path)
    try file.attributes.set("model", contents.model)
    try file.attributes.set("logit_scale", contents.logitScale)
    if let dataset = contents.dataset { try file.attributes.set("corpus", dataset) }
    try file.attributes.set("alpha", contents.alpha.rawValue)
    if contents.leftOut > 0 { try file.attributes.set("left_out", contents.leftOut) }
    for part in contents.parts {
      parts[part.kind] = Part(
        rows: try file.createDataset(part.kind, .float32, shape: [part.count, part.rows.columns]))
    }
  }

  func append(_ part: EmbeddingFile.Rows, _ names: ArraySlice<String>, _ rows: Tensor<Float>) throws {
    // Taken out, so that its arrays are not copied.
    guard !names.isEmpty, var written = parts.removeValue(forKey: part.kind) else { return }
    let filled = written.offsets.count - 1
    try written.rows.write(rows, rows: filled..<filled + names.count)
    for name in names {
      written.names += name.utf8
      written.offsets.append(UInt64(written.names.count))
    }
    parts[part.kind] = written
  }

  func finish() throws {
    for (kind, part) in parts.sorted(by: { $0.key < $1.key }) {
      try file.createDataset(kind + "_names/bytes", .uint8, shape: [part.names.count]).write(part.names)
      try file.createDataset(kind + "_names/offsets", .uint64, shape: [part.offsets.count]).write(part.offsets)
    }
    try file.close()
  }
}
