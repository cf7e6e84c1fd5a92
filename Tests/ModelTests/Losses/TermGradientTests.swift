import Foundation
import Model
import Tensor
import TestSupport
import Testing

/// Checks the norms of the terms' gradients against each term's own gradient, computed alone and in double precision.
@Suite struct TermGradientTests {
  /// All terms at once; no term's losses weigh another's rows.
  private static var options: ObjectiveOptions {
    var options = ObjectivePreset.intra.options
    (options.icl, options.crossKD, options.gd, options.afd, options.affinity) = (0.5, 0.3, 100, 0.2, 0.4)
    (options.fd, options.rkd, options.siglip, options.gram) = (20, 0.7, 0.6, 0.8)
    return options
  }

  private static func scene<S: Scalar>(_ n: Int, _ student: Int, _ teacher: Int, _: S.Type) -> ObjectiveScene<S> {
    var scene = ObjectiveTests.scene(n, student, teacher, S.self)
    scene.measuresTermGradients = true
    return scene
  }

  /// ( Σ_i ‖r_i‖² ‖∂L/∂r_i‖² )^½ over both modalities' raw rows r.
  private func norm(_ found: ObjectiveScene<Double>.Outcome, _ scene: ObjectiveScene<Double>) -> Double {
    let width = scene.image.columns
    func squares(_ raw: Tensor<Double>, _ gradient: [Double]) -> Double {
      (0..<raw.rows).reduce(0) { sum, i in
        let row = i * width..<(i + 1) * width
        let lengths = [raw.doubles[row], gradient[row]].map { $0.reduce(0) { $0 + $1 * $1 } }
        return sum + lengths[0] * lengths[1]
      }
    }
    return (squares(scene.image, found.image) + squares(scene.text, found.text)).squareRoot()
  }

  /// With equal widths terms share the student's rows; with others some read them through heads.
  @Test(arguments: [(7, 5, 5), (7, 5, 3), (5, 3, 7)]) func alone(n: Int, student: Int, teacher: Int) throws {
    let weights: [(key: String, path: WritableKeyPath<ObjectiveOptions, Double>)] = [
      ("intra", \.intra), ("clip", \.clip), ("crd", \.crd), ("affinity", \.affinity), ("fd", \.fd), ("icl", \.icl),
      ("cross_kd", \.crossKD), ("gd", \.gd), ("afd", \.afd), ("rkd", \.rkd), ("siglip", \.siglip),
      ("gram", \.gram),
    ]
    let scene = Self.scene(n, student, teacher, Double.self)
    let whole = try scene.run(Self.options)
    #expect(Set(whole.report.gradients.map(\.name)) == Set(weights.map(\.key)))
    var sums = (image: [Double](repeating: 0, count: n * student), text: [Double](repeating: 0, count: n * student))
    for (key, _) in weights {
      var options = Self.options
      for other in weights where other.key != key { options[keyPath: other.path] = 0 }
      let alone = try scene.run(options)
      let measured = try #require(whole.report.gradients.first { $0.name == key }?.norm)
      let expected = norm(alone, scene)
      #expect(expected > 1e-6 && abs(measured - expected) <= 1e-9 * expected, "\(key): \(measured), \(expected)")
      sums = (zip(sums.image, alone.image).map(+), zip(sums.text, alone.text).map(+))
    }
    // Together they are the gradient that the towers receive.
    #expect(Deviation(sums.image, from: whole.image).relative <= 1e-9)
    #expect(Deviation(sums.text, from: whole.text).relative <= 1e-9)
  }

  /// For `fd` with equal widths, ∂L/∂u without its part along u is 2 λ/(N d) sin θ for a row at the angle θ.
  @Test func featuresByHand() throws {
    let scene = Self.scene(6, 4, 4, Double.self)
    let found = try scene.run(.only(\.fd, 50))
    let pairs = [(scene.image, scene.teacherImage), (scene.text, scene.teacherText)]
    let squares = pairs.flatMap { raw, teacher in
      let unit = ObjectiveScene.unit(raw)
      return (0..<6).map { row in 1 - pow(dot(unit.rows(row..<row + 1), teacher.rows(row..<row + 1)), 2) }
    }
    let expected = 2 * 50 / (6.0 * 4) * squares.reduce(0, +).squareRoot()
    #expect(abs(found.report.gradients[0].norm - expected) <= 1e-12 * expected)
  }

  @Test(arguments: [2, 3]) func ranks(ranks: Int) throws {
    let scene = Self.scene(13, 5, 3, Double.self)
    let expected = try scene.run(Self.options).report.gradients
    for part in try scene.run(Self.options, ranks: ranks) {
      #expect(part.report.gradients.map(\.name) == expected.map(\.name))
      let deviation = Deviation(part.report.gradients.map(\.norm), from: expected.map(\.norm))
      #expect(deviation.relative <= 1e-9, "\(deviation)")
    }
  }

  /// Single precision knows the differences of the sums well enough, and the sums stay what they are.
  @Test(arguments: [1, 3]) func nothingElseChanges(ranks: Int) throws {
    var scene = Self.scene(13, 5, 3, Float.self)
    let measured = try scene.run(Self.options, ranks: ranks)
    scene.measuresTermGradients = false
    let exact = try Self.scene(13, 5, 3, Double.self).run(Self.options).report.gradients
    for (with, without) in zip(measured, try scene.run(Self.options, ranks: ranks)) {
      #expect(without.report.gradients.isEmpty)
      #expect(with.parts.map(\.numbers) == without.parts.map(\.numbers))
      let norms = with.report.gradients.map(\.norm)
      let largest = exact.map(\.norm).max() ?? 0
      for (found, wanted) in zip(norms, exact) {
        #expect(abs(found - wanted.norm) <= 1e-3 * wanted.norm + 1e-5 * largest, "\(wanted.name): \(found)")
      }
    }
  }
}
