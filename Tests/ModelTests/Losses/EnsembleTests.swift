import Foundation
import Model
import Tensor
import TestSupport
import Testing

/// Objectives with several teachers: softmaxes are averaged, embeddings are the first one's.
@Suite struct EnsembleTests {
  private func scene<S: Scalar>(
    _ n: Int, _ student: Int, _ teacher: Int, others: [Int], _: S.Type = S.self
  ) -> ObjectiveScene<S> {
    var scene = ObjectiveTests.scene(n, student, teacher, S.self)
    for width in others { scene.add(teacher: width) }
    return scene
  }

  /// Other widths, other scales, against softmaxes of whole matrices that are averaged as they are written.
  @Test(arguments: [(7, 5, 5, [3]), (5, 3, 7, [2, 7]), (11, 7, 3, [3, 1, 4])])
  func values(n: Int, student: Int, teacher: Int, others: [Int]) throws {
    let scene = scene(n, student, teacher, others: others, Double.self)
    let plain = PlainObjective(scene)
    for (name, options) in allObjectives {
      let found = try scene.run(options).total
      #expect(Deviation([found], from: [plain.total(options)]).relative <= 1e-11, "\(name): \(found)")
    }
  }

  @Test(arguments: [(5, 3, 3, [4]), (7, 3, 2, [1, 5])])
  func differences(n: Int, student: Int, teacher: Int, others: [Int]) throws {
    let scene = scene(n, student, teacher, others: others, Double.self)
    for (name, options) in checkedObjectives { try expectDifferences(scene, name, options) }
  }

  /// A teacher that is there twice, or thrice, says what it says once.
  @Test(arguments: [1, 2]) func theSameTeacherAgain(times: Int) throws {
    let single = ObjectiveTests.scene(11, 5, 3, Double.self)
    var several = single
    several.others = Array(repeating: single.teachers[0], count: times)
    for (name, options) in allObjectives { expect(try several.run(options), try single.run(options), 1e-10, name) }
  }

  /// Terms that look at embeddings see the first teacher alone; terms that follow softmaxes see all.
  @Test func whoIsSeen() throws {
    let single = ObjectiveTests.scene(7, 5, 3, Double.self)
    let several = scene(7, 5, 3, others: [4], Double.self)
    for (name, term) in [("fd", \ObjectiveOptions.fd), ("icl", \.icl), ("gd", \.gd), ("afd", \.afd)] {
      expect(try several.run(.only(term)), try single.run(.only(term)), 0, name)
    }
    for term in [\ObjectiveOptions.crd, \.crossKD, \.affinity, \.intra] {
      #expect(abs(try several.run(.only(term)).total / single.run(.only(term)).total - 1) > 1e-3)
    }
  }

  @Test(arguments: [2, 3, 5]) func ranks(ranks: Int) throws {
    let scene = scene(13, 5, 3, others: [2, 6], Double.self)
    for (name, options) in allObjectives {
      let parts = try scene.run(options, ranks: ranks)
      #expect(parts.allSatisfy { $0.report == parts[0].report }, "\(name): the report is the same on every rank")
      expect(ObjectiveScene.joined(parts), try scene.run(options), 1e-11, "\(name) on \(ranks) ranks")
    }
  }

  @Test func singlePrecision() throws {
    let (rough, exact) = (
      scene(13, 5, 3, others: [4], Float.self), scene(13, 5, 3, others: [4], Double.self)
    )
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

  /// Scale 100 and teachers that contradict each other: pairs that are as unlikely as can be to one or to all of them.
  @Test(arguments: [(1, 1), (2, 3), (256, 1024)]) func largeLogits(rows: Int, columns: Int) throws {
    var scene = scene(4, 2, 2, others: [2], Float.self)
    scene.image = Tensor(Shape(4, 2), [1, 0, -1, 0, 1, 0, -1, 0])
    scene.text = Tensor(Shape(4, 2), [-1, 0, 1, 0, -1, 0, 1, 0])
    (scene.teacherImage, scene.teacherText) = (scene.image, scene.image)
    scene.others[0] = .init(image: scene.text, text: scene.image, logitScale: log(100))
    scene.logitScale = log(100)
    scene.teacherLogitScale = log(100)
    scene.tile = (rows, columns)
    for (name, options) in allObjectives {
      let found = try scene.run(options)
      #expect(found.parts.allSatisfy { $0.numbers.allSatisfy(\.isFinite) }, "\(name): \(found.parts)")
    }
  }

  /// What other ranks are asked for, as `plan` and dry runs have it.
  @Test func traffic() {
    let one = ObjectiveTraffic(.only(\.crd), studentWidth: 5, teacherWidth: 3)
    let two = ObjectiveTraffic(.only(\.crd), studentWidth: 5, teacherWidth: 3, others: [4])
    // Both modalities' embeddings, and of each anchor a normaliser a teacher.
    #expect(two.gatheredColumns.sorted() == (one.gatheredColumns + [4, 4, 1, 1, 1, 1]).sorted())
    #expect(two.reducedNumbers == one.reducedNumbers)
  }
}
