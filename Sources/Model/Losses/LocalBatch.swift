/// The rows of a global batch that one rank owns.
public struct LocalBatch: Equatable, Sendable {
  public let rows: Range<Int>
  /// N, the pairs of all ranks.
  public let count: Int

  public init(rows: Range<Int>, count: Int) {
    precondition(rows.lowerBound >= 0 && rows.upperBound <= count, "rows \(rows) of \(count)")
    self.rows = rows
    self.count = count
  }

  /// The global row of this rank's first.
  public var first: Int { rows.lowerBound }
}

/// The same thing of pictures and of captions.
public struct Modalities<T> {
  public var image: T
  public var text: T

  public init(image: T, text: T) {
    self.image = image
    self.text = text
  }

  /// Captions in the place of pictures.
  var swapped: Modalities { Modalities(image: text, text: image) }
}

extension Modalities: Sendable where T: Sendable {}
