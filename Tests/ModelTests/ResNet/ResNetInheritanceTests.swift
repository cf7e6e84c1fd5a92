import Model
import Tensor
import TestSupport
import Testing

/// A ResNet cut from a larger one: weights, and the statistics that belong to them.
@Suite struct ResNetInheritanceTests {
  private static func config(stages: [Int], width: Int, embedding: Int) -> CLIPConfig {
    CLIPConfig(
      embedding: embedding, vision: VisionConfig(imageSize: 64, stages: stages, width: width, headWidth: 16),
      text: TextConfig(contextLength: 4, vocabularySize: 9, width: 4, heads: 2, layers: 1))
  }

  /// The number at the same indices of a larger tensor.
  private static func number(_ whole: Tensor<Double>, at index: Int, of shape: Shape) -> Double {
    var (rest, place, step) = (index, 0, 1)
    for (size, wide) in zip(shape.array, whole.shape.array).reversed() {
      place += rest % size * step
      rest /= size
      step *= wide
    }
    return whole[place]
  }

  @Test func parametersAndBuffersAreLeadingParts() throws {
    let (large, small) = (
      Self.config(stages: [2, 4, 3, 2], width: 8, embedding: 7),
      Self.config(stages: [1, 2, 3, 1], width: 4, embedding: 5)
    )
    let plan = try Inheritance(from: large, to: small, towers: .image)
    let (source, student) = (CLIP<Double>(large).parameters, CLIP<Double>(small).parameters)
    for store in [source, student] {
      for entry in store.entries {
        copy(Tensor<Double>.random(entry.shape, "\(entry.name) \(entry.shape)"), into: store.value(of: entry))
      }
      for buffer in store.buffers {
        copy(Tensor<Double>.random(buffer.shape, "\(buffer.name) \(buffer.shape)"), into: store.value(of: buffer))
      }
    }
    plan.apply(from: source, to: student)
    let found =
      student.entries.map { ($0.name, student.value(of: $0)) }
      + student.buffers.map { ($0.name, student.value(of: $0)) }
    var compared = 0
    for (name, value) in found where name.hasPrefix("visual.") {
      // Every second block of four; the first of two.
      let from = name.replacing("visual.layer2.1.", with: "visual.layer2.2.")
      let whole =
        source.entry(named: from).map { source.value(of: $0) }
        ?? source.buffer(named: from).map { source.value(of: $0) }
      let expected = try #require(whole, "\(from)")
      for index in 0..<value.count where value[index] != Self.number(expected, at: index, of: value.shape) {
        Issue.record("\(name)[\(index)] is not that of \(from)")
      }
      compared += 1
    }
    // Three convolutions of the stem, three of each of seven blocks and four of shortcuts, each with five tensors of
    // its norm; nine of the pool.
    #expect(compared == 28 * 6 + 9)
  }
}
