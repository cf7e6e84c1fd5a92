internal import RealModule
public import Tensor

/// A rectangle of an image, in whole pixels.
public struct CropBox: Equatable, Sendable {
  public let left: Int
  public let top: Int
  public let width: Int
  public let height: Int

  public init(left: Int, top: Int, width: Int, height: Int) {
    (self.left, self.top, self.width, self.height) = (left, top, width, height)
  }

  /// Returns whether the box has pixels and lies within an image of this size.
  func fits(width: Int, height: Int) -> Bool {
    self.width > 0 && self.height > 0 && left >= 0 && top >= 0
      && left <= width - self.width && top <= height - self.height
  }

  /// Draws a random box within an image of width × height pixels, as torchvision's RandomResizedCrop does.
  ///
  /// Each of up to ten attempts draws an area that is uniform in `scale`, as a share of the image's area, and a ratio
  /// width / height whose logarithm is uniform over that of `ratio`. The first box that fits is placed uniformly. If
  /// none fits, the result is the largest central box whose ratio lies in `ratio`.
  public static func random(
    inWidth width: Int, height: Int, scale: ClosedRange<Double>, ratio: ClosedRange<Double>,
    using random: inout KeyedRandom
  ) -> CropBox {
    let area = Double(width) * Double(height)
    for _ in 0..<10 {
      let target = area * random.uniform(from: scale.lowerBound, to: scale.upperBound)
      let aspect = Double.exp(random.uniform(from: .log(ratio.lowerBound), to: .log(ratio.upperBound)))
      let w = Int((target * aspect).squareRoot().rounded(.toNearestOrEven))
      let h = Int((target / aspect).squareRoot().rounded(.toNearestOrEven))
      if w > 0, w <= width, h > 0, h <= height {
        let top = random.below(height - h + 1)
        return CropBox(left: random.below(width - w + 1), top: top, width: w, height: h)
      }
    }
    return central(inWidth: width, height: height, ratio: ratio)
  }

  /// Returns the largest central box whose ratio width / height lies in `ratio`.
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

/// A crop as another program gives it: its edges as fractions of the sides of the image, from 0 to 1.
public struct CropRegion: Equatable, Sendable {
  public let left, top, right, bottom: Double

  /// Creates a region of the edges left, top, right and bottom; nil unless they enclose a part of the image.
  public init?(_ edges: [Float]) {
    let edges = edges.map { Double($0) }
    guard edges.count == 4, 0 <= edges[0], edges[0] < edges[2], edges[2] <= 1, 0 <= edges[1], edges[1] < edges[3],
      edges[3] <= 1
    else { return nil }
    (left, top, right, bottom) = (edges[0], edges[1], edges[2], edges[3])
  }

  /// Returns the region's box in an image of width × height pixels: the nearest edges between pixels, at least one
  /// pixel apart.
  func box(inWidth width: Int, height: Int) -> CropBox {
    func side(_ from: Double, _ to: Double, _ length: Int) -> Range<Int> {
      let start = min(Int((from * Double(length)).rounded()), length - 1)
      return start..<max(Int((to * Double(length)).rounded()), start + 1)
    }
    let (across, down) = (side(left, right, width), side(top, bottom, height))
    return CropBox(left: across.lowerBound, top: down.lowerBound, width: across.count, height: down.count)
  }
}
