import Foundation
import Model
import Settings
import Tensor
import TestSupport
import Testing

/// The sigmoid loss: open_clip's numbers, its kernel, its settings and its costs. Finite differences, ranks, tiles and
/// the plain reference are among `checkedObjectives`.
@Suite struct SigLIPTests {
  /// A batch with what open_clip's `SigLipLoss` made of it; `Tests/Fixtures/siglip/make_siglip.py` wrote the file.
  struct Case: Decodable, Sendable, CustomTestStringConvertible {
    var name: String
    var pairs: Int
    var width: Int
    var logitScale: Double
    var logitBias: Double
    var image: [Double]
    var text: [Double]
    var value: Double
    /// By the names `image`, `text`, `logit_scale` and `logit_bias`.
    var gradients: [String: [Double]]

    var testDescription: String { "\(name), \(pairs) pairs" }

    private enum CodingKeys: String, CodingKey {
      case name, pairs, width, image, text, value, gradients
      case logitScale = "logit_scale"
      case logitBias = "logit_bias"
    }
  }

  private struct Cases: Decodable { var cases: [Case] }

  static func cases() throws -> [Case] {
    let file = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent().appending(path: "Fixtures/siglip/siglip.json")
    return try JSONDecoder().decode(Cases.self, from: Data(contentsOf: file)).cases
  }

  @Test func theFileHasCases() throws {
    #expect(try Self.cases().map(\.name) == ["start", "trained", "positive", "one", "large"])
  }

  @Test(arguments: try SigLIPTests.cases()) func openCLIPsNumbersInDouble(one: Case) throws {
    try compare(one, Double.self, 1e-12)
  }

  @Test(arguments: try SigLIPTests.cases()) func openCLIPsNumbersInSinglePrecision(one: Case) throws {
    try compare(one, Float.self, 1e-6)
  }

  private func compare<S: Scalar>(_ one: Case, _: S.Type, _ tolerance: Double) throws {
    var scene = ObjectiveScene<S>(pairs: one.pairs, student: one.width, teacher: 1)
    scene.image = Tensor(Shape(one.pairs, one.width), one.image.map { S($0) })
    scene.text = Tensor(Shape(one.pairs, one.width), one.text.map { S($0) })
    scene.logitScale = one.logitScale
    scene.parameters["logit_bias"] = Tensor(Shape(), [S(one.logitBias)])
    for ranks in 1...3 {
      let found = ObjectiveScene.joined(try scene.run(.only(\.siglip), ranks: ranks))
      let parts: [(String, [Double], [Double]?)] = [
        ("value", [found.total], [one.value]), ("image", found.image, one.gradients["image"]),
        ("text", found.text, one.gradients["text"]),
        ("logit_scale", [found.logitScale], one.gradients["logit_scale"]),
        ("logit_bias", found.own["logit_bias"] ?? [], one.gradients["logit_bias"]),
      ]
      for (name, numbers, wanted) in parts {
        let deviation = Deviation(numbers, from: try #require(wanted))
        #expect(deviation.relative <= tolerance, "\(one.name), \(name) on \(ranks) ranks: \(deviation)")
      }
    }
  }

  // MARK: The kernel

  /// Own columns inside and outside the tile; sums that are added to; with and without losses.
  @Test(arguments: [0, 2, -4, 3, -1, 9]) func aTileAgainstAPlainLoop(diagonal: Int) {
    compareTile(Double.self, diagonal)
    compareTile(Float.self, diagonal)
  }

  private func compareTile<S: Scalar>(_: S.Type, _ diagonal: Int) {
    let (b, t) = (5, 4)
    for hasLosses in [true, false] {
      let c = Tensor<S>.random(Shape(b, t), "products", bound: 1.5)
      let (scale, bias, weight) = (S(3), S(-2), S(0.25))
      func vector(_ name: String) -> Tensor<S> { .random(Shape(b), name, bound: 2) }
      let (along, slopes, losses) = (vector("along"), vector("slopes"), vector("losses"))
      let (p, before) = (c.doubles, [along.doubles, slopes.doubles, losses.doubles])
      sigmoidGradient(
        c, scale: scale, bias: bias, weight: weight, diagonal: diagonal,
        addingTo: (along, slopes, hasLosses ? losses : nil))
      for i in 0..<b {
        var sums = [before[0][i], before[1][i], before[2][i]]
        for j in 0..<t {
          let product = p[i * t + j]
          let y: Double = j == diagonal + i ? 1 : -1
          let margin = y * (3 * product - 2)
          let expected = -0.25 * y / (1 + exp(margin))
          #expect(abs(Double(c[i * t + j]) - expected) <= S.roundoff * 30, "[\(i), \(j)]")
          sums[0] += expected * product
          sums[1] += expected
          if hasLosses { sums[2] += log(1 + exp(-margin)) }
        }
        for (found, wanted) in zip([along, slopes, losses], sums) {
          #expect(abs(Double(found[i]) - wanted) <= S.roundoff * 200, "row \(i): \(found[i]), \(wanted)")
        }
      }
    }
  }

  /// Margins of any size: nothing overflows, right pairs cost nothing, wrong ones their margin; NaN stays NaN.
  @Test func extremeMargins() {
    let c = Tensor<Float>(Shape(1, 6), [1e4, -1e4, 1e4, -1e4, 0, .nan])
    func vector() -> Tensor<Float> { Tensor(Shape(1)) }
    let (along, slopes, losses) = (vector(), vector(), vector())
    sigmoidGradient(
      c, scale: 100, bias: -100, weight: 1, diagonal: 0, addingTo: (along, slopes, losses))
    #expect(c.array.dropLast() == [0, 0, 1, 0, 0])
    #expect(c[5].isNaN && along[0].isNaN && slopes[0].isNaN && losses[0].isNaN)
    let (wrong, sum) = (Tensor<Float>(Shape(1, 2), [-1e4, 1e4]), vector())
    sigmoidGradient(
      wrong, scale: 100, bias: -100, weight: 1, diagonal: 0, addingTo: (vector(), vector(), sum))
    #expect(wrong.array == [-1, 1] && abs(sum[0] - 2e6) <= 1)
  }

  // MARK: Settings and costs

  @Test func settings() {
    let settings = ObjectiveOptions()[SigLIPSettings.self]
    #expect(settings.weight == Scheduled(0) && settings.bias == -10 && settings.mistakes.isEmpty)
    let alone = ObjectiveOptions.only(\.siglip)
    #expect(!alone.needsTeacher && alone.needs == [] && alone.keys(needing: []) == ["siglip"])
    #expect(alone.mistakes.isEmpty)
    #expect(alone.initialLogitBias == -10 && ObjectiveOptions().initialLogitBias == nil)
    for (bias, isRight) in [(-100.0, true), (100, true), (-100.5, false), (1e300, false)] {
      var options = alone
      options[SigLIPSettings.self].bias = bias
      let paths = options.mistakes.map { $0.path }
      #expect(paths == (isRight ? [] : ["objective.siglip_bias"]), "\(bias)")
    }
    // A term that is used from some step on has its bias from the first.
    var later = ObjectiveOptions()
    later[SigLIPSettings.self].weight = Scheduled(points: [.init(step: 0, value: 0), .init(step: 5, value: 1)])
    #expect(later.initialLogitBias == -10 && later.scheduledTerms == ["siglip"])
  }

  @Test func theBiasBeginsWhereTheSettingSays() {
    func layout(_ options: ObjectiveOptions) -> ParameterStore<Float> {
      let store = ParameterStore<Float>()
      _ = store.declare("logit_scale", Shape(), .constant(1))
      _ = Objective<Float>(options, studentWidth: 3, teacherWidth: nil, declaringIn: store)
      return store
    }
    var options = ObjectiveOptions.only(\.siglip)
    options[SigLIPSettings.self].bias = -4
    let store = layout(options)
    #expect(store.entry(named: "logit_bias")?.shape == Shape() && store.initials.last == .constant(-4))
    #expect(layout(ObjectiveOptions()).entries.map(\.name) == ["logit_scale"])
  }

  /// The rows that every objective gathers, and one sum: the value.
  @Test func traffic() {
    let found = ObjectiveTraffic(.only(\.siglip), studentWidth: 5, teacherWidth: nil)
    #expect(found.gatheredColumns == [5, 5] && found.reducedNumbers == [1])
  }

  @Test func operationsAndMemory() {
    let size = ObjectiveSize(rows: 3, count: 7, student: 5, teacher: 5)
    let options = ObjectiveOptions.only(\.siglip)
    // Two modalities, a product for similarities and one for the gradient, each a multiply-add.
    #expect(options.operations(size) == Double(2 * 2 * 2 * 3 * 7 * 5))
    #expect(options.operations(size, once: true) == options.operations(size))
    #expect(options.numbers(size, others: []) == ObjectiveOptions.only(\.clip).numbers(size, others: []))
  }
}
