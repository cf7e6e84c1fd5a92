import Dist
import Foundation
import Model
import Settings
import TestSupport
import Testing

@testable import Launch

/// Objectives of run files in real jobs: what the log says of terms, schedules and anchors.
@Suite struct ObjectiveRunTests {
  let scene: TrainScene

  init() async throws {
    scene = try await TrainScene()
    try await scene.train("teacher", ["steps=1"], ranks: 1)
  }

  private var teacher: String { "teacher=\(scene.runFolder("teacher").path)" }

  /// What tests read of a step in the log.
  private struct Line: Decodable {
    struct Anchors: Decodable, Equatable {
      var divergenceMean: Double
      var divergenceDeviation: Double
      var weightMean: Double
      var weightDeviation: Double
      var scale: Double?
    }
    var event: String
    var step: Int
    var note: String?
    var loss: Double?
    var terms: [String: Double]?
    var termWeights: [String: Double]?
    var anchors: [String: Anchors]?
    var termGradients: [String: Double]?
  }

  private func log(_ name: String) throws -> [Line] {
    let text = try String(contentsOf: scene.runFolder(name).appending(path: RunLog.fileName), encoding: .utf8)
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    return try text.split(separator: "\n").map { try decoder.decode(Line.self, from: Data($0.utf8)) }
  }

  static let schedule = """
    objective={preset: intra, fd: [{step: 0, value: 0}, {step: 4, value: 2000}], crd: 0.5, \
    intra: [{step: 2, value: 0}, {step: 3, value: 2}], \
    intra_options: {text: 0.5, temperature: learned, multiplies: [intra, clip]}}
    """

  @Test func theLogHasEveryTermWithTheWeightOfItsStep() async throws {
    let run = try await scene.run([Self.schedule, teacher, "name=scheduled", "steps=6"], ranks: 2)
    try #require(run.status == 0, "\(run)")
    let lines = try log("scheduled").filter { $0.event == "step" }
    let objective = try RunConfig.load(scene.runFolder("scheduled").appending(path: RunFolder.runFile).path).objective
    #expect(lines.count == 6)
    for line in lines {
      let options = objective.at(line.step - 1)
      var weights = ["clip": 1, "crd": 0.5]
      if options.fd != 0 { weights["fd"] = options.fd }
      if options.intra != 0 {
        weights["intra_image"] = options.intra
        weights["intra_text"] = options.intra * 0.5
      }
      #expect(line.termWeights == weights, "step \(line.step)")
      let terms = try #require(line.terms)
      #expect(Set(terms.keys) == Set(weights.keys))
      let sum = weights.reduce(0) { $0 + $1.value * (terms[$1.key] ?? .nan) }
      #expect(abs(sum - (line.loss ?? .nan)) < 1e-9 * sum, "step \(line.step)")
      #expect((line.anchors?.count ?? 0) == (options.intra == 0 ? 0 : 2), "step \(line.step)")
      for anchors in (line.anchors ?? [:]).values {
        #expect(anchors.divergenceMean > 0 && anchors.divergenceDeviation > 0 && anchors.weightDeviation > 0)
        #expect(abs(anchors.weightMean - 1) < 1e-6, "weights sum to 1")
      }
    }
    // The scale is learned from the first step in which the term has a weight, and a resumed run goes on with it.
    let scales = lines.compactMap { $0.anchors?["image"]?.scale }
    #expect(scales.count == 3 && abs(scales[0] - 2.65926) < 1e-5 && scales[2] != scales[0], "\(scales)")
    #expect(run.output.contains(" s 2.659"), "\(run)")
    #expect([1, 3, 5, 6].map { lines[$0 - 1].termWeights?["fd"] } == [nil, 1000, 2000, 2000])
    for words in [" × 1000  ", " × 2000  ", "  crd "] { #expect(run.output.contains(words), "\(words) in \(run)") }
    #expect(run.output.contains("  image D ") && run.output.contains("  text D "), "\(run)")
  }

  @Test func aResumedRunGoesOnInItsSchedule() async throws {
    let values = [Self.schedule, teacher, "optimizer.schedule=constant"]
    let whole = try await scene.train("whole", values + ["steps=6"], ranks: 2)
    try await scene.train("parts", values + ["steps=3"], ranks: 2)
    let parts = try await scene.train("parts", values + ["steps=6"], ["--resume", "latest"], ranks: 2)
    #expect(difference(parts, whole) < 1e-6, "\(parts), \(whole)")
  }

  /// A run that measures the gradients of its terms is, but for its log, the run that does not.
  @Test func gradientsOfTheTerms() async throws {
    let values = ["objective={preset: intra, fd: 20}", teacher, "steps=6", "log.every=2"]
    try await scene.train("plain", values, ranks: 2)
    try await scene.train("measured", values + ["log.term_gradients=3"], ranks: 2)
    let lines = try log("measured").filter { $0.event == "step" }
    #expect(lines.map(\.step) == [2, 3, 4, 6])
    for line in lines {
      let gradients = line.termGradients ?? [:]
      #expect(gradients.keys.sorted() == (line.step % 3 == 0 ? ["clip", "crd", "fd", "intra"] : []))
      #expect(gradients.values.allSatisfy { $0 > 0 && $0.isFinite }, "\(gradients)")
    }
    #expect(try scene.parts("plain", 6) == scene.parts("measured", 6))
    // 2 · 20 / 16
    let facts = try scene.log("measured", "header").flatMap { $0.facts ?? [] }
    #expect(
      facts.first { $0.name == "objective" }?.text
        == "fd 20 weighs each modality's mean 1 − cosine by 2.5 (the teacher's embedding is 16 wide)")
    let page = scene.folder.path("page.html")
    let report = try await MPIRun.kinship(
      ["report", scene.runFolder("measured").path, "--output", page], ranks: nil)
    try #require(report.status == 0, "\(report)")
    let text = try String(contentsOf: URL(filePath: page), encoding: .utf8)
    #expect(text.contains(">gradients of the terms</h4>"))
    for name in ["clip", "crd", "fd", "intra"] { #expect(text.contains("data-name=\"\(name)\""), "\(name)") }
  }

  /// Two pairs leave an anchor one candidate: the log says so once, and the other terms go on.
  @Test func aBatchTooSmallForAnchorsIsSaidOnce() async throws {
    let values = ["objective=intra", teacher, "name=few", "batch.global=2", "steps=3"]
    let run = try await scene.run(values, ranks: 2)
    try #require(run.status == 0, "\(run)")
    let lines = try log("few")
    let notes = lines.filter { $0.event == "note" }
    #expect(notes.count == 1 && notes[0].step == 1)
    let note = try #require(notes[0].note)
    #expect(note.contains("batch of 2"), "\(note)")
    #expect(run.output.components(separatedBy: note).count == 2, "\(run)")
    for line in lines where line.event == "step" {
      #expect(line.terms?["intra_image"] == 0 && line.terms?["intra_text"] == 0 && (line.loss ?? 0) > 0)
    }
  }
}
