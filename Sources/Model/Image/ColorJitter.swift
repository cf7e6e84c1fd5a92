package import Tensor

/// Random change of colours, as torchvision's ColorJitter on PIL pictures.
public struct ColorJitter: Codable, Equatable, Sendable {
  /// Brightness, contrast and saturation are scaled by a factor uniform in [max(0, 1 − x), 1 + x].
  public var brightness = 0.0
  public var contrast = 0.0
  public var saturation = 0.0
  /// The hue is turned by an angle uniform in −x … x of the colour circle; at most ½.
  public var hue = 0.0
  /// The share of pictures that are changed at all.
  public var probability = 0.0

  public init(
    brightness: Double = 0, contrast: Double = 0, saturation: Double = 0, hue: Double = 0, probability: Double = 0
  ) {
    self.brightness = brightness
    self.contrast = contrast
    self.saturation = saturation
    self.hue = hue
    self.probability = probability
  }

  /// Keys that are absent keep their defaults.
  public init(from decoder: any Decoder) throws {
    let values = try decoder.container(keyedBy: CodingKeys.self)
    brightness = try values.decodeIfPresent(Double.self, forKey: .brightness) ?? brightness
    contrast = try values.decodeIfPresent(Double.self, forKey: .contrast) ?? contrast
    saturation = try values.decodeIfPresent(Double.self, forKey: .saturation) ?? saturation
    hue = try values.decodeIfPresent(Double.self, forKey: .hue) ?? hue
    probability = try values.decodeIfPresent(Double.self, forKey: .probability) ?? probability
  }

  /// The changes that one picture gets, in order; most often none.
  ///
  /// With `probability`, the four changes in random order; one whose range is zero is left out.
  package func draw(using random: inout KeyedRandom) -> [ColorChange] {
    guard random.uniform() < probability else { return [] }
    var changes: [ColorChange] = []
    func factor(_ range: Double) -> Double { random.uniform(max(0, 1 - range), 1 + range) }
    if brightness > 0 { changes.append(.brightness(factor(brightness))) }
    if contrast > 0 { changes.append(.contrast(factor(contrast))) }
    if saturation > 0 { changes.append(.saturation(factor(saturation))) }
    if hue > 0 { changes.append(.hue(random.uniform(-hue, hue))) }
    changes.shuffle(using: &random)
    return changes
  }
}

/// One change of a picture's colours, in 8 bits and with the roundings of PIL.
///
/// Gray is L = (19595 r + 38470 g + 7471 b + 2¹⁵) / 2¹⁶; a blend of x towards b by f is b + f (x − b), cut off towards
/// zero and limited to 0 … 255.
package enum ColorChange: Equatable {
  /// Blend from black.
  case brightness(Double)
  /// Blend from the picture's mean gray.
  case contrast(Double)
  /// Blend from the pixel's gray.
  case saturation(Double)
  /// Turn of the hue, in whole circles.
  case hue(Double)
  /// Every pixel becomes its gray.
  case gray
}

extension RGBImage {
  package mutating func apply(_ change: ColorChange) {
    let pixels = width * height
    switch change {
    case .brightness(let factor):
      blend(pixels, Float(factor)) { _, _, _ in 0 }
    case .contrast(let factor):
      let mean = meanGray(pixels)
      blend(pixels, Float(factor)) { _, _, _ in mean }
    case .saturation(let factor):
      blend(pixels, Float(factor), from: Self.gray)
    case .gray:
      blend(pixels, 0, from: Self.gray)
    case .hue(let turn):
      let shift = UInt8(truncatingIfNeeded: Int(turn * 255))
      var bytes = storage.mutableSpan
      for at in stride(from: 0, to: pixels * 3, by: 3) {
        var color = HSV(red: bytes[at], green: bytes[at + 1], blue: bytes[at + 2])
        color.hue &+= shift
        (bytes[at], bytes[at + 1], bytes[at + 2]) = color.rgb
      }
    }
  }

  /// Blends every pixel from the gray that `base` gives for it.
  private mutating func blend(_ pixels: Int, _ factor: Float, from base: (UInt8, UInt8, UInt8) -> Int32) {
    var bytes = storage.mutableSpan
    for at in stride(from: 0, to: pixels * 3, by: 3) {
      let gray = base(bytes[at], bytes[at + 1], bytes[at + 2])
      for channel in at..<at + 3 {
        let value = Float(gray) + factor * Float(Int32(bytes[channel]) - gray)
        bytes[channel] = UInt8(min(max(value, 0), 255))
      }
    }
  }

  private static func gray(_ red: UInt8, _ green: UInt8, _ blue: UInt8) -> Int32 {
    (Int32(red) * 19595 + Int32(green) * 38470 + Int32(blue) * 7471 + 0x8000) >> 16
  }

  /// The mean gray, rounded.
  private func meanGray(_ pixels: Int) -> Int32 {
    let bytes = storage.span
    var sum = 0
    for at in stride(from: 0, to: pixels * 3, by: 3) { sum += Int(Self.gray(bytes[at], bytes[at + 1], bytes[at + 2])) }
    return Int32(Double(sum) / Double(pixels) + 0.5)
  }
}
