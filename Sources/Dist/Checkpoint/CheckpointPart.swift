internal import Foundation
internal import Tensor

/// One rank's file of a checkpoint: for each parameter of which the rank owns something, that slice of its values
/// and of both moments, as vectors with the attributes `offset` (of the slice in the parameter) and `shape` (of the
/// whole parameter).
struct CheckpointPart {
  enum Group: String, CaseIterable {
    case parameters, moment1, moment2

    func dataset(_ name: String) -> String { "/\(rawValue)/\(name)" }
  }

  /// What a rank owns of one parameter.
  struct Slice {
    let name: String
    let shape: Shape
    /// Which of the parameter's scalars.
    let range: Range<Int>
    let numbers: [Group: Tensor<Float>]
  }

  /// At least what the HDF5 library takes beside the numbers, for each data set and for a file.
  static let overhead = (dataset: 1536, file: 16_384)

  let path: String
  let slices: [Slice]

  init(_ path: String, _ state: CheckpointState) {
    self.path = path
    slices = state.entries.compactMap { entry in
      let shared = entry.range.clamped(to: state.range)
      guard !shared.isEmpty else { return nil }
      let moments = shared.lowerBound - state.range.lowerBound..<shared.upperBound - state.range.lowerBound
      return Slice(
        name: entry.name, shape: entry.shape,
        range: shared.lowerBound - entry.offset..<shared.upperBound - entry.offset,
        numbers: [
          .parameters: state.values.slice(shared), .moment1: state.firstMoment.slice(moments),
          .moment2: state.secondMoment.slice(moments),
        ])
    }
  }

  /// A bound on the file's size.
  var byteBound: Int {
    slices.reduce(Self.overhead.file) {
      $0 + Group.allCases.count * ($1.range.count * MemoryLayout<Float>.size + Self.overhead.dataset)
    }
  }

  /// Writes the file, brings it to the disk, reads it back and compares every bit. Returns its size and SHA-256.
  func write() throws -> (bytes: Int, sha256: String) {
    let file = try HDF5File.create(path)
    try file.attributes.set("schema", "kinship checkpoint part 1")
    for slice in slices {
      for group in Group.allCases {
        let name = group.dataset(slice.name)
        let dataset = try file.createDataset(name, .float32, shape: [slice.range.count])
        if let numbers = slice.numbers[group] { try dataset.write(numbers) }
        try file.attributes(of: name).set("offset", slice.range.lowerBound)
        try file.attributes(of: name).set("shape", slice.shape.description)
      }
    }
    try file.close()
    try Publish.sync(file: path)
    try verify()
    let written = try OpenFile.reading(path)
    return (try written.size(), try written.sha256())
  }

  private func verify() throws {
    let file = try HDF5File.open(path)
    for slice in slices {
      for group in Group.allCases {
        let found = Tensor<Float>(Shape(slice.range.count))
        try Self.read(file, group, slice.name, slice.range, rows: 0..<slice.range.count, into: found)
        guard let numbers = slice.numbers[group], Self.sameBits(found, numbers) else {
          let reason = "\(group.dataset(slice.name)) reads back other numbers than were written"
          throw FileError(action: "verify", path: path, reason: reason)
        }
      }
    }
    try file.close()
  }

  /// Reads `rows` of the slice `range` of a parameter.
  static func read(
    _ file: HDF5File, _ group: Group, _ name: String, _ range: Range<Int>, rows: Range<Int>, into target: Tensor<Float>
  ) throws {
    let dataset = try file.dataset(group.dataset(name))
    let offset = try file.attributes(of: dataset.name).integer("offset", as: Int.self)
    guard dataset.shape == [range.count], offset == range.lowerBound else {
      throw FileError(
        action: "use", path: file.path,
        reason: "\(dataset.name) holds \(dataset.shape) scalars from \(offset), the manifest says \(range)")
    }
    try dataset.read(into: target, rows: rows)
  }

  /// Compares without rounding, so that a NaN equals itself.
  private static func sameBits(_ one: Tensor<Float>, _ other: Tensor<Float>) -> Bool {
    unsafe one.withUnsafeMutableBuffer { left in
      unsafe other.withUnsafeMutableBuffer { right in
        guard let first = left.baseAddress, let second = right.baseAddress else { return false }
        return unsafe left.count == right.count
          && memcmp(first, second, left.count * MemoryLayout<Float>.size) == 0
      }
    }
  }
}
