internal import Tensor

/// Reads scalars of one checkpoint by parameter, whatever parts they lie in. It keeps the parts it was last in open.
final class CheckpointReader {
  private let checkpoint: Checkpoint
  private let places: [[CheckpointManifest.Place]]
  private var open: [(part: Int, file: HDF5File)] = []

  /// How many parts are open at a time.
  private static let most = 8

  init(_ checkpoint: Checkpoint) {
    self.checkpoint = checkpoint
    places = checkpoint.manifest.places()
  }

  /// Fills `target` with the scalars `elements` of parameter number `parameter`, and reads no more than these.
  func read(
    _ group: CheckpointPart.Group, _ parameter: Int, _ elements: Range<Int>, into target: Tensor<Float>
  ) throws(CheckpointError) {
    precondition(target.count == elements.count, "\(target.shape) for \(elements)")
    try CheckpointError.naming(checkpoint.folder) {
      let name = group.dataset(checkpoint.manifest.parameters[parameter].name)
      for place in places[parameter] {
        let shared = place.range.clamped(to: elements)
        guard !shared.isEmpty else { continue }
        let first = place.row + shared.lowerBound - place.range.lowerBound
        try file(place.part).dataset(name).read(
          into: target.slice(shared.lowerBound - elements.lowerBound..<shared.upperBound - elements.lowerBound),
          rows: first..<first + shared.count)
      }
    }
  }

  private func file(_ part: Int) throws -> HDF5File {
    if let known = open.first(where: { $0.part == part }) { return known.file }
    if open.count == Self.most { open.removeFirst() }
    let file = try HDF5File.open("\(checkpoint.folder)/\(checkpoint.manifest.parts[part].file)")
    open.append((part, file))
    return file
  }
}
