/// A colour as hue, saturation and value of 8 bits each, converted with the roundings of PIL.
struct HSV {
  /// A full circle is 255, red at 0.
  var hue: UInt8
  var saturation: UInt8
  var value: UInt8

  init(red: UInt8, green: UInt8, blue: UInt8) {
    let high = max(red, green, blue)
    let low = min(red, green, blue)
    value = high
    guard high > low else {
      hue = 0
      saturation = 0
      return
    }
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
