internal import Foundation
internal import Tensor

/// A file of a checkpoint, which one rank writes, or all ranks of a node: of each parameter the scalars that they own,
/// both their moments, and perhaps their moving average, as vectors with two attributes: their `ranges` of the
/// parameter, and its whole `shape`.
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
    /// Those of them that this rank writes, in rising order; nil: all.
    var own: [Range<Int>]?
    var count: Int { ranges.total }
    /// The ranges as in the attribute: `0:8 24:32`.
    var text: String { ranges.map { "\($0.lowerBound):\($0.upperBound)" }.joined(separator: " ") }
  }

  /// Returns scalars of a parameter, all within one of the ranges that this rank writes. The next call may overwrite
  /// them.
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

  /// Writes, syncs, reads back and compares the file. It is removed after a failure, or a full disk would stay full. If
  /// the ranks of `node` share the file, all must call it; all but the first get nil.
  func write(over node: Communicator? = nil) throws -> (bytes: Int, sha256: String)? {
    let isFirst = node?.rank ?? 0 == 0
    do {
      if isFirst { try writeFile() }
      if let node {
        try node.patientBarrier()
        if !isFirst { try fill() }
        try node.patientBarrier()
        try Publish.forget(file: path)
      }
      try verify()
      guard isFirst else { return nil }
      let written = try OpenFile.reading(path)
      return (bytes: try written.size(), sha256: try written.sha256())
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

  /// Writes this rank's numbers to their places in the file that the first rank has made. It does so past the HDF5
  /// library, through which several processes cannot write to one file.
  private func fill() throws {
    let (made, file) = (try HDF5File.open(path), try OpenFile.changing(path))
    try forEachVector { slice, group in
      let dataset = try made.dataset(group.dataset(slice.name))
      guard let start = dataset.fileOffset else { preconditionFailure("\(dataset.name) has no numbers") }
      try Self.forEachPiece(of: slice) { scalars, rows in
        let place = start + rows.lowerBound * MemoryLayout<Float>.stride
        try unsafe numbers(group, slice.name, scalars).withUnsafeMutableBuffer { buffer throws(FileError) in
          try unsafe file.overwrite(UnsafeRawBufferPointer(buffer), at: place)
        }
      }
    }
    try made.close()
    try file.sync()
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

  /// Calls `body` with this rank's scalars of a slice, a piece at a time, and their rows in the data set.
  private static func forEachPiece(
    of slice: Slice, _ body: (_ scalars: Range<Int>, _ rows: Range<Int>) throws -> Void
  ) throws {
    var row = 0
    for range in slice.ranges {
      for own in (slice.own ?? [range]).map({ $0.clamped(to: range) }) {
        for start in stride(from: own.lowerBound, to: own.upperBound, by: piece) {
          let scalars = start..<min(start + piece, own.upperBound)
          try body(scalars, scalars.moved(by: row - range.lowerBound))
          Progress.made()
        }
      }
      row += range.count
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
