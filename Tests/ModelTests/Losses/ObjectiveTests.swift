import Foundation
import Model
import Tensor
import TestSupport
import Testing

@Suite struct ObjectiveTests {
  /// A scene whose own parameters are drawn, for every objective has others.
  static func scene<S: Scalar>(
    _ n: Int, _ student: Int, _ teacher: Int, _: S.Type = S.self
  ) -> ObjectiveScene<S> {
    var scene = ObjectiveScene<S>(pairs: n, student: student, teacher: teacher)
    func draw(_ name: String, _ shape: Shape) {
      scene.parameters["objective.\(name)"] = .random(shape, name, bound: 0.8)
    }
    if student != teacher {
      for name in ["visual_proj", "text_proj"] {
        draw("\(name).weight", Shape(teacher, student))
        draw("\(name).bias", Shape(teacher))
      }
    }
    for name in ["visual_fusion_proj", "text_fusion_proj"] {
      draw("\(name).weight", Shape(student, student + teacher))
      draw("\(name).bias", Shape(student))
    }
    scene.parameters["objective.cross_logit_scale"] = Tensor(Shape(), [1.7])
    scene.parameters["objective.fusion_logit_scale"] = Tensor(Shape(), [2.3])
    scene.parameters["objective.intra_image_logit_scale"] = Tensor(Shape(), [1.9])
    scene.parameters["objective.intra_text_logit_scale"] = Tensor(Shape(), [2.2])
    scene.parameters["logit_bias"] = Tensor(Shape(), [-1.3])
    return scene
  }

  // MARK: against the formulas

  @Test(arguments: [(7, 5, 5), (5, 3, 7), (3, 2, 1), (11, 7, 3)]) func values(n: Int, student: Int, teacher: Int) throws
  {
    let scene = Self.scene(n, student, teacher, Double.self)
    let plain = PlainObjective(scene)
    for (name, options) in allObjectives {
      let found = try scene.run(options).total
      #expect(Deviation([found], from: [plain.total(options)]).relative <= 1e-11, "\(name): \(found)")
    }
  }

  @Test(arguments: [(5, 3, 3), (4, 2, 3), (7, 3, 2)]) func differences(n: Int, student: Int, teacher: Int) throws {
    let base = Self.scene(n, student, teacher, Double.self)
    for (name, options) in checkedObjectives { try expectDifferences(base, name, options) }
  }

  /// The teachers are drawn until no pair is nearer to a kink than the variables move it.
  @Test(arguments: [(5, 3, 3), (4, 2, 3)]) func differencesBetweenKinks(n: Int, student: Int, teacher: Int) throws {
    for (name, options) in kinkedObjectives {
      func gaps(_ plain: PlainObjective) -> [Double] {
        [true, false].flatMap { isImage -> [Double] in
          guard options.intra != 0 else { return plain.cosineGaps(isImage) }
          let gaps = plain.probabilityGaps(isImage, options.intraOptions)
          return gaps.indices.flatMap { i in gaps.indices.filter { $0 != i }.map { gaps[i][$0] } }
        }
      }
      let scenes = (0..<1000).lazy.map { draw in
        var scene = Self.scene(n, student, teacher, Double.self)
        scene.teacherImage = ObjectiveScene.unit(.random(Shape(n, teacher), "teacher image \(draw)"))
        scene.teacherText = ObjectiveScene.unit(.random(Shape(n, teacher), "teacher text \(draw)"))
        return scene
      }
      let clear = scenes.first { scene in gaps(PlainObjective(scene)).allSatisfy { abs($0) > 0.02 } }
      try expectDifferences(try #require(clear, "\(name)"), name, options)
    }
  }

  /// The differences are those of the plain value. Each of its logits is rounded about 2 d + 8 times, for d = 3 numbers
  /// in a row: fewer than the 16 roundings that are the default.
  @Test(arguments: [(5, 3, 4), (7, 3, 3)]) func differencesWithHeldWeights(n: Int, student: Int, teacher: Int) throws {
    for (name, options) in heldObjectives {
      var scene = Self.scene(n, student, teacher, Double.self)
      let scale = Tensor<Double>(Shape(), [scene.logitScale])
      let (found, base) = (try scene.run(options), PlainObjective(scene))
      let claimed = [
        ("image", scene.image, found.image), ("text", scene.text, found.text),
        ("logit scale", scale, [found.logitScale]),
      ]
      let gradients = claimed.map { Tensor<Double>($0.1.shape) }
      let report = GradientCheck(
        zip(claimed, gradients).map { .init($0.0, $0.1, gradient: $1, accumulates: false) }
      ).run {
        scene.logitScale = scale[0]
        return [PlainObjective(scene).total(options, holding: base)]
      } backward: { weights in
        for ((_, _, numbers), gradient) in zip(claimed, gradients) {
          for (index, number) in numbers.enumerated() { gradient[index] = weights[0] * number }
        }
      }
      #expect(report.failures == 0 && report.count > 0, "\(name): \(report)")
      #expect(report.blind.allSatisfy { $0 == "logit scale" && options.gram != 0 }, "\(name): \(report)")
    }
  }

  // MARK: tiles, ranks and precision

  @Test(arguments: [(1, 1), (2, 3), (5, 2), (1000, 1000)]) func tiles(rows: Int, columns: Int) throws {
    var scene = Self.scene(11, 3, 4, Double.self)
    for (name, options) in allObjectives {
      scene.tile = (4, 5)
      let expected = try scene.run(options)
      scene.tile = (rows, columns)
      expect(try scene.run(options), expected, 1e-11, "\(name) by \(rows) × \(columns)")
    }
  }

  @Test(arguments: [2, 3, 5]) func ranksInDouble(ranks: Int) throws { try compareRanks(Double.self, ranks, 1e-11) }

  @Test(arguments: [2, 3]) func ranksInSinglePrecision(ranks: Int) throws { try compareRanks(Float.self, ranks, 1e-4) }

  private func compareRanks<S: Scalar>(_: S.Type, _ ranks: Int, _ tolerance: Double) throws {
    let scene = Self.scene(13, 5, 3, S.self)
    for (name, options) in allObjectives {
      let expected = try scene.run(options)
      let parts = try scene.run(options, ranks: ranks)
      #expect(parts.allSatisfy { $0.report == parts[0].report }, "\(name): the report is the same on every rank")
      expect(ObjectiveScene.joined(parts), expected, tolerance, "\(name) on \(ranks) ranks")
    }
  }

  @Test func singlePrecision() throws {
    let (rough, exact) = (Self.scene(13, 5, 3, Float.self), Self.scene(13, 5, 3, Double.self))
    for (name, options) in allObjectives {
      let (a, b) = (try rough.run(options), try exact.run(options))
      for (part, wanted) in zip(a.parts, b.parts) {
        let deviation = Deviation(part.numbers, from: wanted.numbers)
        #expect(
          deviation.relative <= 1e-4 || deviation.absolute <= 1e-6 * max(1, abs(b.total)),
          "\(name) \(part.name): \(deviation)")
      }
    }
  }

  // MARK: batches of other kinds

  @Test func aPermutedBatchHasPermutedGradients() throws {
    let scene = Self.scene(7, 5, 3, Double.self)
    let order = [3, 6, 0, 5, 1, 4, 2]
    func permuted(_ x: Tensor<Double>) -> Tensor<Double> {
      let y = Tensor<Double>(x.shape)
      gatherRows(x, order, into: y)
      return y
    }
    var other = scene
    (other.image, other.text) = (permuted(scene.image), permuted(scene.text))
    (other.teacherImage, other.teacherText) = (permuted(scene.teacherImage), permuted(scene.teacherText))
    for (name, options) in allObjectives {
      var expected = try scene.run(options)
      expected.image = order.flatMap { expected.image[$0 * 5..<($0 + 1) * 5] }
      expected.text = order.flatMap { expected.text[$0 * 5..<($0 + 1) * 5] }
      expect(try other.run(options), expected, 1e-11, name)
    }
  }

  @Test func aTeacherThatIsTheStudentTeachesNothing() throws {
    try compareTwins(Float.self)
    try compareTwins(Double.self)
  }

  private func compareTwins<S: Scalar>(_: S.Type) throws {
    var scene = ObjectiveScene<S>(pairs: 13, student: 7, teacher: 7)
    scene.teacherImage = ObjectiveScene.unit(scene.image)
    scene.teacherText = ObjectiveScene.unit(scene.text)
    scene.teacherLogitScale = scene.logitScale
    for ranks in 1...3 {
      // Beside the teacher's own scale a learned one is another.
      for (name, options) in allObjectives
      where options.intra != 0 && options.clip == 0 && options.intraOptions.learnedTeacher == .start {
        let found = ObjectiveScene.joined(try scene.run(options, ranks: ranks))
        let intra = try #require(found.value("intra_image") ?? found.value("intra_text"))
        // Jensen and Shannon's takes logarithms of means, which round.
        let bound = options.intraOptions.divergence == .jensenShannon ? 50 * S.roundoff : 0
        #expect(abs(intra) <= bound, "\(name): \(intra)")
        #expect(
          (found.image + found.text + [found.logitScale]).allSatisfy { abs($0) <= 20 * bound },
          "\(name) on \(ranks) ranks")
      }
    }
  }

  @Test func fewerThanThreePairsHaveNothingToCompare() throws {
    for n in 1...2 {
      let scene = Self.scene(n, 3, 4, Float.self)
      let masked = try scene.run(.intra { _ in })
      #expect(masked.total == 0 && (masked.image + masked.text + [masked.logitScale]).allSatisfy { $0 == 0 })
      #expect(masked.report.notes.count == 1 && masked.report.notes[0].contains("\(n)"))
      for (name, options) in allObjectives {
        let found = try scene.run(options)
        #expect(found.parts.allSatisfy { $0.numbers.allSatisfy(\.isFinite) }, "\(name) of \(n)")
      }
    }
  }

  @Test func moreRanksThanPairs() throws {
    let scene = Self.scene(3, 5, 4, Double.self)
    for (name, options) in allObjectives {
      expect(ObjectiveScene.joined(try scene.run(options, ranks: 5)), try scene.run(options), 1e-11, name)
    }
  }

  @Test func equalRows() throws {
    var scene = Self.scene(6, 3, 3, Float.self)
    let row: [Float] = [0.6, 0.8, 0]
    let rows = Tensor<Float>(Shape(6, 3), (0..<6).flatMap { _ in row })
    (scene.image, scene.text, scene.teacherImage, scene.teacherText) = (rows, rows, rows, rows)
    for (name, options) in allObjectives {
      let found = try scene.run(options)
      #expect(found.parts.allSatisfy { $0.numbers.allSatisfy(\.isFinite) }, "\(name)")
    }
    // Every candidate is as good as any other, for both models.
    let intra = try scene.run(.intra { _ in })
    #expect(abs(intra.total) <= 1e-6 && (intra.image + intra.text).allSatisfy { abs($0) <= 1e-5 })
    #expect(abs(try scene.run(.only(\.clip)).total - log(6)) <= 1e-5)
  }

  /// Changing how much alike a row is to itself changes nothing where it is no candidate of its own.
  @Test func theDiagonalIsMasked() throws {
    let scene = Self.scene(7, 3, 3, Double.self)
    var other = scene
    // Longer raw rows are the same unit rows; the student's self-similarity is 1 and with the scale it is s.
    other.logitScale = scene.logitScale
    let masked = try scene.run(.intra { _ in }).total
    let kept = try scene.run(.intra { $0.diagonal = .keep }).total
    #expect(masked != kept)
    #expect(
      masked == PlainObjective(other).total(.intra { _ in })
        || abs(masked / PlainObjective(other).total(.intra { _ in }) - 1) < 1e-12)
  }

  @Test func identitiesOfWeights() throws {
    let scene = Self.scene(9, 5, 4, Double.self)
    let (with, without) = (
      try scene.run(.intra { $0.weighting = .raw }),
      try scene.run(.intra { ($0.weighting, $0.weightGradient) = (.raw, false) })
    )
    #expect(with.total == without.total)
    #expect(Deviation(with.image, from: without.image.map { 2 * $0 }).relative <= 1e-13)
    let uniform = try scene.run(.intra { $0.weighting = .uniform })
    let means = uniform.report.anchors.map(\.divergenceMean)
    #expect(Deviation([uniform.total], from: [means.reduce(0, +)]).relative <= 1e-13)
    #expect(uniform.report.anchors.allSatisfy { abs($0.weightMean - 1) < 1e-13 && $0.weightDeviation < 1e-13 })
  }

  /// Equal weights change no other term's rows, and anchors that are weighed by nothing else are equal.
  @Test func identitiesOfMultipliedRows() throws {
    let scene = Self.scene(9, 5, 4, Double.self)
    var options = ObjectivePreset.intra.options
    options.intraOptions.weighting = .uniform
    let plain = try scene.run(options)
    options.intraOptions.multiplies = [.intra, .clip, .crd, .fd]
    expect(try scene.run(options), plain, 1e-12, "equal weights")
    options.intraOptions.weighting = .sum
    let weighted = try scene.run(options)
    for term in ["clip", "crd", "fd"] { #expect(weighted.value(term) != plain.value(term), "\(term)") }
    options.intraOptions.multiplies = [.clip]
    let clip = try scene.run(options)
    #expect(clip.value("clip") == weighted.value("clip") && clip.value("fd") == plain.value("fd"))
    #expect(clip.value("intra_image") == plain.value("intra_image"))
  }

  /// A step's products: 2 · rows · count · modalities, times the widths of all passes and of the gradient.
  @Test func operations() {
    let size = ObjectiveSize(rows: 2, count: 4, student: 3, teacher: 5)
    let passes: [(ObjectiveOptions, Double)] = [
      (.intra { _ in }, 2), (.intra { $0.granularity = .pair }, 3), (.intra { $0.divergence = .jensenShannon }, 3),
      (.only(\.gram), 2),
    ]
    for (options, passes) in passes { #expect(options.operations(size) == 2 * 2 * 4 * 2 * (passes * 8 + 3)) }
  }

  /// Scale 100, every pair as wrong as can be: logits of −100 beside 100.
  @Test(arguments: [(1, 1), (2, 3), (256, 1024)]) func largeLogits(rows: Int, columns: Int) throws {
    var scene = Self.scene(4, 2, 2, Float.self)
    scene.image = Tensor(Shape(4, 2), [1, 0, -1, 0, 1, 0, -1, 0])
    scene.text = Tensor(Shape(4, 2), [-1, 0, 1, 0, -1, 0, 1, 0])
    scene.logitScale = log(100)
    scene.teacherLogitScale = log(100)
    scene.tile = (rows, columns)
    for (name, options) in allObjectives {
      let found = try scene.run(options)
      #expect(found.parts.allSatisfy { $0.numbers.allSatisfy(\.isFinite) }, "\(name): \(found.parts)")
    }
    #expect(abs(try scene.run(.only(\.clip)).total - (200 + log(2))) <= 1e-3)
  }

  @Test func aFeatureThatIsNotANumberIsSeenInTheLoss() throws {
    for bad in [Float.nan, .infinity] {
      for (name, options) in allObjectives where !name.hasPrefix("intra of captions") {
        let scene = Self.scene(5, 3, 4, Float.self)
        scene.image[7] = bad
        #expect(try scene.run(options).total.isNaN, "\(name)")
      }
    }
  }
}
