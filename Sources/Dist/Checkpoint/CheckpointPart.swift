internal import Foundation
internal import Tensor

/// One rank's file of a checkpoint: of each parameter the scalars that the rank owns, both their moments, and perhaps
/// their moving average, as vectors with two attributes: their `ranges` of the parameter, and its whole `shape`.
struct CheckpointPart {
  enum Group: String {
    case parameters, moment1, moment2
    case average = "ema"
    static func all(averaged: Bool) -> [Group] { [.parameters, .moment1, .moment2] + (averaged ? [.average] : []) }
    func dataset(_ name: String) -> String { "/\(rawValue)/\(name)" }
  }

  struct Slice {
    let name: String
    let shape: Shape
    /// The scalars, counted within the parameter, in rising order; never empty.
    let ranges: [Range<Int>]
    var count: Int { ranges.total }
    /// The ranges as in the attribute: `0:8 24:32`.
    var text: String { ranges.map { "\($0.lowerBound):\($0.upperBound)" }.joined(separator: " ") }
  }

  /// Returns scalars of a parameter, all within one of its slice's ranges. The next call may overwrite them.
  typealias Numbers = (_ group: Group, _ name: String, _ scalars: Range<Int>) throws -> Tensor<Float>
  /// Upper bounds on the bytes that the HDF5 library adds to the numbers, for each data set and for a file.
  private static let overhead = (dataset: 1536, file: 16_384)
  /// The number of scalars that pass through the HDF5 library at a time, so that no thread waits long for its lock.
  static let piece = 1 << 20
  let path: String
  let slices: [Slice]
  private let groups: [Group]
  private let numbers: Numbers

  init(_ path: String, _ slices: [Slice], averaged: Bool, numbers: @escaping Numbers) {
    (self.path, self.slices, self.numbers) = (path, slices, numbers)
    groups = Group.all(averaged: averaged)
  }

  var byteBound: Int {
    slices.reduce(Self.overhead.file) {
      let dataset = $1.count * MemoryLayout<Float>.size + Self.overhead.dataset + 2 * $1.text.utf8.count
      return $0 + groups.count * dataset
    }
  }

  /// Writes, syncs, reads back and compares the file. It is removed after a failure, or a full disk would stay full.
  func write() throws -> (bytes: Int, sha256: String) {
    do {
      try writeFile()
      try verify()
      let written = try OpenFile.reading(path)
      return (try written.size(), try written.sha256())
    } catch {
      try? Publish.removeAll(path)
      throw error
    }
  }

  private func writeFile() throws {
    let file = try HDF5File.create(path)
    try file.attributes.set("schema", "kinship checkpoint part 2")
    try forEachVector { slice, group in
      let name = group.dataset(slice.name)
      let dataset = try file.createDataset(name, .float32, shape: [slice.count])
      try Self.forEachPiece(of: slice) { try dataset.write(try numbers(group, slice.name, $0), rows: $1) }
      try file.attributes(of: name).set("ranges", slice.text)
      try file.attributes(of: name).set("shape", slice.shape.description)
    }
    try file.close()
    try Publish.sync(file: path)
    try Publish.forget(file: path)
  }

  private func verify() throws {
    let file = try HDF5File.open(path)
    let buffer = Tensor<Float>(Shape(min(slices.map(\.count).max() ?? 0, Self.piece)))
    try forEachVector { slice, group in
      let dataset = try file.dataset(group.dataset(slice.name))
      try Self.forEachPiece(of: slice) { scalars, rows in
        let found = buffer.slice(0..<rows.count)
        try dataset.read(into: found, rows: rows)
        guard Self.sameBits(found, try numbers(group, slice.name, scalars)) else {
          let reason = "\(dataset.name) reads back other numbers than were written"
          throw FileError(action: "verify", path: path, reason: reason)
        }
      }
    }
    try file.close()
  }

  private func forEachVector(_ body: (Slice, Group) throws -> Void) throws {
    for slice in slices { for group in groups { try body(slice, group) } }
  }

  /// Calls `body` with the scalars of a slice, a piece at a time, and their rows in the data set.
  private static func forEachPiece(
    of slice: Slice, _ body: (_ scalars: Range<Int>, _ rows: Range<Int>) throws -> Void
  ) throws {
    var row = 0
    for range in slice.ranges {
      for start in stride(from: range.lowerBound, to: range.upperBound, by: piece) {
        let scalars = start..<min(start + piece, range.upperBound)
        try body(scalars, row..<row + scalars.count)
        Progress.made()
        row += scalars.count
      }
    }
  }

  /// Compares bits, so that a NaN equals itself.
  private static func sameBits(_ one: Tensor<Float>, _ other: Tensor<Float>) -> Bool {
    unsafe one.withUnsafeMutableBuffer { left in
      unsafe other.withUnsafeMutableBuffer { right in
        guard let first = left.baseAddress, let second = right.baseAddress else { return false }
        return unsafe left.count == right.count && memcmp(first, second, left.count * MemoryLayout<Float>.size) == 0
      }
    }
  }
}
