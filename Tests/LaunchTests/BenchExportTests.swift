import Foundation
import TestSupport
import Testing

@testable import Launch

/// Runs `scripts/bench export` with as many threads as the training has had.
private func export(_ arguments: [String], _ environment: [String: String] = [:]) async throws -> MPIRun {
  let script = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().appending(path: "scripts/bench").path
  return try await MPIRun.execute(
    ["bash", script, "export"] + arguments,
    ["KINSHIP": try MPIRun.path(of: "kinship"), "KINSHIP_THREADS": "1"].merging(environment) { $1 })
}

/// Tests of the figures of a run with a teacher. Kinship's measurements are real. A stand-in replaces the Python
/// that has onnxruntime, which no test installs: it prints what the real script prints.
@Suite struct BenchExportTests {
  let scene: TeacherScene
  private let quick = ["--repetitions", "20", "--seconds", "0.05", "--batch", "4"]
  private var run: String { scene.scene.runFolder("student").path(percentEncoded: false) }
  private var folder: TemporaryFolder { scene.scene.folder }

  init() async throws {
    scene = try await TeacherScene()
    let dataset = scene.scene.dataset
    let evaluations =
      "[{kind: retrieval, dataset: \"\(dataset)\"}, {kind: retrieval, dataset: \"\(dataset)\", captions: first, "
      + "duplicates: strict}, {kind: zero-shot, dataset: \"\(dataset)\"}]"
    try await scene.train("student", ["steps=3", "evaluate.evaluations=\(evaluations)"])
  }

  /// The figures that the run's folder has after a command, which prints the same on its last line.
  private func figures(_ run: MPIRun) throws -> ExportFigures {
    try #require(run.status == 0, "\(run)")
    let figures = try #require(try ExportFigures(ofRun: scene.scene.runFolder("student")))
    let line = try #require(run.output.split(separator: "\n").last)
    #expect(try JSONDecoder().decode(ExportFigures.self, from: Data(line.utf8)) == figures)
    #expect(run.output.contains("| form | on disk | memory |"), "\(run)")
    return figures
  }

  @Test func ownFormAndTeacher() async throws {
    let figures = try figures(await export([run, "--types", "none"] + quick))
    #expect(figures.run == "student" && figures.step == 3 && figures.batch == 4 && figures.imageSize == 16)
    #expect(figures.processor == Machine.processorName && figures.captionTokens == 8)
    #expect(figures.cores == 1)
    #expect(figures.forms.map(\.name) == ["Kinship fp32", "teacher teacher"])
    #expect(figures.forms.map(\.isTeacher) == [false, true])
    for form in figures.forms {
      #expect(form.program == "Kinship \(Release.version)" && form.image.repetitions == 20)
      #expect(form.accuracy.keys.sorted() == ["retrieval corpus", "retrieval corpus first strict", "zero-shot corpus"])
    }
    // The student's accuracies are those that its log has after the last step.
    for line in try scene.scene.log("student", "evaluation") {
      let name = try #require(line.evaluation)
      let own = try #require(figures.forms[0].accuracy[name], "\(name)")
      for (figure, value) in own { #expect(line.figures?[figure] == value, "\(line)") }
    }
    let page = try String(contentsOfFile: "\(run)/report.html", encoding: .utf8)
    #expect(page.contains("<h2 id=\"exports\">") && page.contains("<circle class=\"point"))
    #expect(FileManager.default.fileExists(atPath: "\(run)/exports.svg"))

    let alone = try self.figures(await export([run, "--types", "none", "--no-teacher", "--no-accuracy"] + quick))
    #expect(alone.forms.map(\.name) == ["Kinship fp32"] && alone.forms[0].accuracy.isEmpty)
  }

  @Test func onnxForms() async throws {
    try folder.write(
      "python",
      """
      #!/usr/bin/env bash
      [[ $1 != -c ]] || exit 0
      [[ $2 == *onnx_form.py && -s $4/visual.onnx && -s $4/textual.onnx && -s $4/preprocessor_config.json ]] || exit 1
      echo "${*:3:1} ${*:5}" >> "\(folder.path("asked"))"
      time='{"median": 2, "p99": 3, "repetitions": 20}'
      case $3 in
        latency)
          echo '{"program": "onnxruntime 9.9", "peak_bytes": 1000000, "image_ms": '$time', "caption_ms": '$time'}' ;;
        throughput) echo '{"images_per_s": 10, "captions_per_s": 20}' ;;
        accuracy) grep -q '"title": "zero-shot corpus"' "$8" && echo '{"zero-shot corpus": {"top-1": 0.5}}' ;;
      esac
      """.utf8)
    try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: folder.path("python"))
    let run = try await export(
      [run, "--types", "int8", "fp32", "--no-teacher"] + quick, ["PYTHON": folder.path("python")])
    let forms = try figures(run).forms
    #expect(forms.map(\.name) == ["Kinship fp32", "ONNX fp32", "ONNX int8"])
    #expect(forms[2].program == "onnxruntime 9.9" && forms[2].image.p99 == 3 && forms[2].captionsPerSecond == 20)
    #expect(forms[2].accuracy == ["zero-shot corpus": ["top-1": 0.5]])
    #expect(forms[1].bytes > 1000 && forms[2].bytes > 1000)
    let asked = try String(contentsOfFile: folder.path("asked"), encoding: .utf8).split(separator: "\n")
    #expect(asked.count == 6 && asked[0].hasPrefix("latency --batch 4 --seconds 0.05 --repetitions 20"), "\(asked)")
    #expect(asked[0].contains("--caption-tokens 8 --end-id ") && asked[0].hasSuffix("--threads 1"), "\(asked)")
  }
}

@Suite struct BenchExportRefusalTests {
  @Test func refusals() async throws {
    let folder = try TemporaryFolder()
    let nothing = folder.path("nothing")
    let cases: [([String], Int, String)] = [
      ([], 64, "the following arguments are required: run"),
      ([nothing, "--types", "int4"], 64, "invalid choice: 'int4'"),
      ([nothing, "--repetitions", "0"], 64, "expected a number from 1, found '0'"),
      ([nothing], 74, "is no run's folder"),
    ]
    for (arguments, status, words) in cases {
      let refused = try await export(arguments)
      #expect(refused.status == status && refused.errors.contains(words), "\(refused)")
    }
  }
}
