import Foundation
import Model
import Tensor
import Testing

/// Compares colour changes with plain formulas in double precision.
@Suite struct ImageColorTests {
  /// An image of random colours, grays, primaries and colours that are almost gray.
  private let image: RGBImage = {
    var random = KeyedRandom(seed: 2, purpose: "colours")
    var bytes = (0..<64 * 60 * 3).map { _ in UInt8(random.below(256)) }
    for gray in 0..<64 * 2 { bytes += [UInt8](repeating: UInt8(gray * 2), count: 3) }
    for corner in 0..<64 { bytes += (0..<3).map { corner >> $0 & 1 == 0 ? 0 : 255 } }
    for near in 0..<64 { bytes += (0..<3).map { UInt8(100 + (near >> $0) % 3) } }
    return RGBImage(width: 64, height: 64, rgb: bytes)
  }()

  private func grays(_ image: RGBImage) -> [Double] {
    let rgb = image.rgb
    return stride(from: 0, to: rgb.count, by: 3).map { (at: Int) -> Double in
      let (red, green, blue) = (Double(rgb[at]), Double(rgb[at + 1]), Double(rgb[at + 2]))
      return 0.299 * red + 0.587 * green + 0.114 * blue
    }
  }

  /// Returns the largest difference of `change` from base + factor · (value − base).
  private func blendError(_ change: ColorChange, _ factor: Double, base: (Int) -> Double) -> Double {
    var changed = image
    changed.apply(change)
    let (before, after) = (image.rgb, changed.rgb)
    return zip(before.indices, before).map { at, value in
      let exact = base(at / 3) + factor * (Double(value) - base(at / 3))
      return abs(Double(after[at]) - min(max(exact, 0), 255))
    }.max() ?? .infinity
  }

  @Test(arguments: [0, 0.3, 0.7, 1, 1.4, 2.5]) func blends(factor: Double) {
    // Results are truncated and a gray is an integer, so the error is less than 1 plus half of |1 − factor|.
    let tolerance = 1 + 0.51 * abs(1 - factor)
    #expect(blendError(.brightness(factor), factor) { _ in 0 } <= 1)
    let grays = grays(image)
    let mean = grays.reduce(0, +) / Double(grays.count)
    #expect(blendError(.contrast(factor), factor) { _ in mean } <= tolerance)
    #expect(blendError(.saturation(factor), factor) { grays[$0] } <= tolerance)
  }

  @Test func factorOneChangesNothing() {
    for change in [ColorChange.brightness(1), .contrast(1), .saturation(1)] {
      var changed = image
      changed.apply(change)
      #expect(changed == image)
    }
  }

  @Test func grayIsLuma() {
    var changed = image
    changed.apply(.gray)
    let rgb = changed.rgb
    for (at, exact) in grays(image).enumerated() {
      let pixel = rgb[at * 3..<at * 3 + 3]
      #expect(Set(pixel).count == 1 && abs(Double(pixel.first ?? 0) - exact) <= 0.51)
    }
  }

  /// Compares with the exact turn of the hexagon. Hue and saturation are truncated to 8 bits, so a channel may be off
  /// by 6 / 255 of the range for the hue, as much again where the 8-bit sum wraps at 256 and not at 255, by 1 for the
  /// saturation, and by ½ for rounding: 13.5 in all, and far less on average.
  @Test(arguments: [0, 0.1, -0.2, 0.5, -0.5]) func hue(turn: Double) {
    var changed = image
    changed.apply(.hue(turn))
    let (before, after) = (image.rgb, changed.rgb)
    let held = (turn * 255).rounded(.towardZero) / 255
    var errors: [Double] = []
    var values = true
    for at in stride(from: 0, to: before.count, by: 3) {
      let exact = turned(before[at..<at + 3].map(Double.init), held)
      for channel in 0..<3 { errors.append(abs(Double(after[at + channel]) - exact[channel])) }
      values = values && after[at..<at + 3].max() == before[at..<at + 3].max()
    }
    #expect(values, "the largest channel keeps its value")
    let mean = errors.reduce(0, +) / Double(errors.count)
    #expect(errors.max() ?? 99 <= 13.5 && mean < 2, "up to \(errors.max() ?? 99), mean \(mean)")
  }

  /// Returns a colour turned by a share of the circle, computed in double precision.
  private func turned(_ color: [Double], _ turn: Double) -> [Double] {
    let (high, low) = (color.max() ?? 0, color.min() ?? 0)
    guard high > low else { return color }
    let range = high - low
    let sector =
      if color[0] == high { (color[1] - color[2]) / range } else if color[1] == high {
        2 + (color[2] - color[0]) / range
      } else { 4 + (color[0] - color[1]) / range }
    let hue = (sector + 6 * turn + 12).truncatingRemainder(dividingBy: 6)
    return [5.0, 3, 1].map { offset in
      let k = (offset + hue).truncatingRemainder(dividingBy: 6)
      return high - range * max(0, min(k, 4 - k, 1))
    }
  }

  @Test func drawsFollowTheOptions() {
    let jitter = ColorJitter(brightness: 0.4, contrast: 0.3, saturation: 2, hue: 0.1, probability: 0.8)
    var changed = 0
    var firsts: [Int: Int] = [:]
    for sample in 0..<3000 as Range<UInt64> {
      var random = KeyedRandom(seed: 1, purpose: "draws", sample)
      let changes = jitter.draw(using: &random)
      guard !changes.isEmpty else { continue }
      changed += 1
      #expect(changes.count == 4)
      for change in changes {
        switch change {
        case .brightness(let factor): #expect(0.6...1.4 ~= factor)
        case .contrast(let factor): #expect(0.7...1.3 ~= factor)
        case .saturation(let factor): #expect(0...3 ~= factor)
        case .hue(let turn): #expect(-0.1...0.1 ~= turn)
        case .gray: Issue.record("jitter draws no gray")
        }
      }
      firsts[kind(changes[0]), default: 0] += 1
    }
    // Five standard errors of the count of changed images, 0.8 of 3000, which also bound the count of each first
    // change.
    let spread = 5 * (3000 * 0.2 * 0.8).squareRoot()
    #expect(abs(Double(changed) - 2400) < spread)
    for kind in 0..<4 {
      let count = Double(firsts[kind] ?? 0)
      #expect(abs(count - 600) < spread)
    }
  }

  private func kind(_ change: ColorChange) -> Int {
    switch change {
    case .brightness: 0
    case .contrast: 1
    case .saturation: 2
    case .hue: 3
    case .gray: 4
    }
  }

  @Test func shareOfGray() throws {
    var options = ImageOptions()
    options.grayscale = 0.2
    let preparation = try ImagePreparation(options, seed: 11)
    let count = (0..<3000 as Range<UInt64>).count { preparation.colorChanges(sampleID: $0, view: 0) == [.gray] }
    let spread = 5 * (3000 * 0.2 * 0.8).squareRoot()
    #expect(abs(Double(count) - 600) < spread)
  }
}
