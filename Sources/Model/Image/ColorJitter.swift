public import Settings
package import Tensor

/// Random changes of an image's colours, as torchvision's ColorJitter makes them on PIL images.
public struct ColorJitter: Section, Codable {
  /// Brightness, contrast and saturation are each scaled by a factor that is uniform in [max(0, 1 − x), 1 + x].
  public var brightness = 0.0
  public var contrast = 0.0
  public var saturation = 0.0
  /// The hue is turned by an angle that is uniform in [−x, x], in full circles; at most ½.
  public var hue = 0.0
  /// The share of images that are changed at all.
  public var probability = 0.0

  public init() {}

  public init(brightness: Double, contrast: Double, saturation: Double, hue: Double, probability: Double) {
    (self.brightness, self.contrast, self.saturation) = (brightness, contrast, saturation)
    (self.hue, self.probability) = (hue, probability)
  }

  /// Decodes the settings; absent keys mean no change.
  public init(from decoder: any Decoder) throws {
    let values = try decoder.container(keyedBy: CodingKeys.self)
    func value(_ key: CodingKeys) throws -> Double { try values.decodeIfPresent(Double.self, forKey: key) ?? 0 }
    (brightness, contrast, saturation) = (try value(.brightness), try value(.contrast), try value(.saturation))
    (hue, probability) = (try value(.hue), try value(.probability))
  }

  /// The settings by their names in run files.
  var parts: [(name: String, value: Double)] {
    [
      ("brightness", brightness), ("contrast", contrast), ("saturation", saturation), ("hue", hue),
      ("probability", probability),
    ]
  }

  public mutating func fields(_ map: FieldMap) {
    map.field("brightness", &brightness)
    map.field("contrast", &contrast)
    map.field("saturation", &saturation)
    map.field("hue", &hue)
    map.field("probability", &probability)
  }

  /// Draws the changes for one image in the order in which they are applied: with `probability` all whose range is not
  /// zero, in random order, and otherwise none.
  package func draw(using random: inout KeyedRandom) -> [ColorChange] {
    guard random.uniform() < probability else { return [] }
    var changes: [ColorChange] = []
    func factor(_ range: Double) -> Double { random.uniform(from: max(0, 1 - range), to: 1 + range) }
    if brightness > 0 { changes.append(.brightness(factor(brightness))) }
    if contrast > 0 { changes.append(.contrast(factor(contrast))) }
    if saturation > 0 { changes.append(.saturation(factor(saturation))) }
    if hue > 0 { changes.append(.hue(random.uniform(from: -hue, to: hue))) }
    changes.shuffle(using: &random)
    return changes
  }
}

/// One change of an image's colours, in 8 bits and with the rounding of PIL.
///
/// Gray is L = (19595 r + 38470 g + 7471 b + 2¹⁵) / 2¹⁶. Blending x with a base b by a factor f gives b + f (x − b),
/// limited to 0 … 255 and truncated.
package enum ColorChange: Equatable {
  /// Blends with black.
  case brightness(Double)
  /// Blends with the image's mean gray.
  case contrast(Double)
  /// Blends with the pixel's own gray.
  case saturation(Double)
  /// Turns the hue, in full circles.
  case hue(Double)
  /// Replaces every pixel by its gray.
  case gray
}

extension RGBImage {
  package mutating func apply(_ change: ColorChange) {
    switch change {
    case .brightness(let factor): blend(Float(factor)) { _, _, _ in 0 }
    case .contrast(let factor):
      let mean = meanGray
      blend(Float(factor)) { _, _, _ in mean }
    case .saturation(let factor): blend(Float(factor), with: Self.gray(red:green:blue:))
    case .gray: blend(0, with: Self.gray(red:green:blue:))
    case .hue(let turn):
      let shift = UInt8(truncatingIfNeeded: Int(turn * 255))
      let count = width * height * 3
      var bytes = storage.mutableSpan
      for at in stride(from: 0, to: count, by: 3) {
        var color = HSV(red: bytes[at], green: bytes[at + 1], blue: bytes[at + 2])
        color.hue &+= shift
        (bytes[at], bytes[at + 1], bytes[at + 2]) = color.rgb
      }
    }
  }

  /// Blends every pixel by `factor` with the gray that `base` returns for its red, green and blue.
  private mutating func blend(_ factor: Float, with base: (UInt8, UInt8, UInt8) -> Int32) {
    let count = width * height * 3
    var bytes = storage.mutableSpan
    for at in stride(from: 0, to: count, by: 3) {
      let gray = base(bytes[at], bytes[at + 1], bytes[at + 2])
      for channel in at..<at + 3 {
        let value = Float(gray) + factor * Float(Int32(bytes[channel]) - gray)
        bytes[channel] = UInt8(min(max(value, 0), 255))
      }
    }
  }

  private static func gray(red: UInt8, green: UInt8, blue: UInt8) -> Int32 {
    (Int32(red) * 19595 + Int32(green) * 38470 + Int32(blue) * 7471 + 0x8000) >> 16
  }

  /// The mean gray of all pixels, rounded to the nearest level.
  private var meanGray: Int32 {
    let bytes = storage.span
    var sum = 0
    for at in stride(from: 0, to: width * height * 3, by: 3) {
      sum += Int(Self.gray(red: bytes[at], green: bytes[at + 1], blue: bytes[at + 2]))
    }
    return Int32(Double(sum) / Double(width * height) + 0.5)
  }
}

/// A colour as hue, saturation and value of 8 bits each, converted with the rounding of PIL.
private struct HSV {
  /// The angle on the colour circle, where red is 0 and a full circle is 255.
  var hue: UInt8
  var saturation: UInt8
  var value: UInt8

  init(red: UInt8, green: UInt8, blue: UInt8) {
    let high = max(red, green, blue)
    let low = min(red, green, blue)
    value = high
    (hue, saturation) = (0, 0)
    if high == low { return }
    let range = Float(high - low)
    let (r, g, b) = (Float(high - red) / range, Float(high - green) / range, Float(high - blue) / range)
    let sector: Float =
      switch high {
      case red: b - g
      case green: Float(2 + Double(r) - Double(b))
      default: Float(4 + Double(g) - Double(r))
      }
    let turn = Double(sector) / 6 + 1
    hue = UInt8(Double(Float(turn - turn.rounded(.down))) * 255)
    saturation = UInt8(Double(range / Float(high)) * 255)
  }

  /// The colour as red, green and blue.
  var rgb: (UInt8, UInt8, UInt8) {
    let strength = Float(Double(saturation) / 255)
    let position = Double(hue) * 6 / 255
    let sector = Int(position)
    let part = Float(position - Double(sector))
    func shade(_ share: Double) -> UInt8 { UInt8((Double(value) * (1 - share)).rounded(.toNearestOrAwayFromZero)) }
    let low = shade(Double(strength))
    let falling = shade(Double(strength * part))
    let rising = shade(Double(strength) * (1 - Double(part)))
    switch sector % 6 {
    case 0: return (value, rising, low)
    case 1: return (falling, value, low)
    case 2: return (low, value, rising)
    case 3: return (low, falling, value)
    case 4: return (rising, low, value)
    default: return (value, low, falling)
    }
  }
}
