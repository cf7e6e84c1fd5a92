internal import RealModule
public import Tensor

/// A rectangle of whole pixels inside a picture.
public struct CropBox: Equatable, Sendable {
  public let left: Int
  public let top: Int
  public let width: Int
  public let height: Int

  public init(left: Int, top: Int, width: Int, height: Int) {
    self.left = left
    self.top = top
    self.width = width
    self.height = height
  }

  /// Whether the box has pixels and lies within a picture of this size.
  func fits(width: Int, height: Int) -> Bool {
    self.width > 0 && self.height > 0 && left >= 0 && top >= 0
      && left <= width - self.width && top <= height - self.height
  }

  /// A random box, drawn as torchvision's RandomResizedCrop draws it.
  ///
  /// Ten attempts at an area uniform in `scale` (shares of the picture's area) and a ratio width / height whose
  /// logarithm is uniform in that of `ratio`, placed uniformly; the first that fits is taken. If none fits: the
  /// largest central box with a ratio inside `ratio`.
  public static func random(
    inWidth width: Int, height: Int, scale: ClosedRange<Double>, ratio: ClosedRange<Double>,
    using random: inout KeyedRandom
  ) -> CropBox {
    let area = Double(width) * Double(height)
    for _ in 0..<10 {
      let target = area * random.uniform(scale.lowerBound, scale.upperBound)
      let aspect = Double.exp(random.uniform(.log(ratio.lowerBound), .log(ratio.upperBound)))
      let w = Int((target * aspect).squareRoot().rounded(.toNearestOrEven))
      let h = Int((target / aspect).squareRoot().rounded(.toNearestOrEven))
      if w > 0, w <= width, h > 0, h <= height {
        let top = random.below(height - h + 1)
        return CropBox(left: random.below(width - w + 1), top: top, width: w, height: h)
      }
    }
    return central(inWidth: width, height: height, ratio: ratio)
  }

  /// The largest central box whose ratio width / height lies in `ratio`.
  private static func central(inWidth width: Int, height: Int, ratio: ClosedRange<Double>) -> CropBox {
    let found = Double(width) / Double(height)
    var (w, h) = (width, height)
    if found < ratio.lowerBound {
      h = min(max(Int((Double(w) / ratio.lowerBound).rounded(.toNearestOrEven)), 1), height)
    } else if found > ratio.upperBound {
      w = min(max(Int((Double(h) * ratio.upperBound).rounded(.toNearestOrEven)), 1), width)
    }
    return CropBox(left: (width - w) / 2, top: (height - h) / 2, width: w, height: h)
  }
}
