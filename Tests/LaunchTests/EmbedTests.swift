import Dist
import Foundation
import TestSupport
import Testing

@testable import Launch

@Suite struct EmbedTests {
  @Test func writesTheSameEmbeddingsOnAnyNumberOfRanks() async throws {
    let scene = try EvaluationScene(count: 70)
    let captions = ["red cat", "an old house, and a dog"]
    let lines = try scene.folder.write("captions.txt", captions.joined(separator: "\n").utf8)
    var found: [[Float]] = []
    for ranks in [nil, 2, 3] {
      let output = scene.folder.path("\(ranks ?? 1).h5")
      let run = try await MPIRun.kinship(
        ["embed", "--dataset", scene.dataset, "--captions", lines, "--output", output] + scene.source, ranks: ranks)
      #expect(run.status == 0 && run.output == "/image: 70 × 16\n/text: 2 × 16\n", "\(run)")
      let file = try HDF5File.open(output)
      #expect(try file.dataset("image").shape == [70, 16] && file.dataset("text").shape == [2, 16])
      #expect(try file.attributes.string("corpus") == "scene")
      found.append(try file.dataset("image").read(Float.self) + file.dataset("text").read(Float.self))
    }
    #expect(found[0] == found[1] && found[0] == found[2])
    let expected =
      try scene.samples.flatMap { try scene.embedding(image: $0.image) }
      + captions.flatMap { scene.embedding(text: $0) }
    #expect(found[0].count == expected.count)
    for (one, other) in zip(found[0], expected) { #expect(abs(Double(one) - other) < 1e-5) }
  }

  @Test func rawFeaturesAreThoseOfTheTower() async throws {
    let scene = try EvaluationScene(count: 3)
    let lines = try scene.folder.write("captions.txt", "blue house\n".utf8)
    let output = scene.folder.path("raw.h5")
    let arguments = ["embed", "--captions", lines, "--raw", "--output", output] + scene.source
    let run = try await MPIRun.kinship(arguments, ranks: nil)
    #expect(run.status == 0, "\(run)")
    let file = try HDF5File.open(output)
    #expect(try file.names() == ["text", "text_names"])
    let raw = try file.dataset("text").read(Float.self).map(Double.init)
    #expect(raw.reduce(0) { $0 + $1 * $1 } > 1.01 || raw.reduce(0) { $0 + $1 * $1 } < 0.99)
    for (one, other) in zip(scene.unit(raw), scene.embedding(text: "blue house")) { #expect(abs(one - other) < 1e-5) }
    let again = try await MPIRun.kinship(arguments, ranks: nil)
    #expect(again.status == 64 && again.errors.contains("is there already"), "\(again)")
    let nothing = try await MPIRun.kinship(["embed", "--output", output] + scene.source, ranks: nil)
    #expect(nothing.status == 64 && nothing.errors.contains("nothing to embed"), "\(nothing)")
  }

  // MARK: - A user's own images

  /// Writes the scene's images to files named by their numbers.
  func write(_ scene: EvaluationScene, _ name: (Int) -> String) throws -> [String] {
    try scene.samples.enumerated().map { try scene.folder.write("own/" + name($0.offset), $0.element.image) }
  }

  func names(_ file: HDF5File, _ kind: String) throws -> [String] {
    let bytes = try file.dataset("\(kind)_names/bytes").read(UInt8.self)
    let offsets = try file.dataset("\(kind)_names/offsets").read(UInt64.self).map(Int.init)
    return zip(offsets, offsets.dropFirst()).map { String(decoding: bytes[$0..<$1], as: UTF8.self) }
  }

  struct Line: Decodable, Equatable {
    let kind: String
    let name: String
    let embedding: [Float]
  }

  func lines(_ text: String) throws -> [Line] {
    try text.split(separator: "\n").map { try JSONDecoder().decode(Line.self, from: Data($0.utf8)) }
  }

  @Test func filesOnAnyNumberOfRanks() async throws {
    let scene = try EvaluationScene(count: 150)
    let paths = try write(scene) { "é \($0 % 3)/\($0).png" }
    let list = try scene.folder.write("list.txt", paths.joined(separator: "\n").utf8)
    // Two files are not images, one in the middle of a block and one at the beginning of another.
    try scene.folder.write("own/é \(70 % 3)/70.png", [1, 2, 3])
    try FileManager.default.removeItem(atPath: paths[128])
    let kept = paths.indices.filter { $0 != 70 && $0 != 128 }
    var found: [[Float]] = []
    for ranks in [nil, 2, 3] {
      let output = scene.folder.path("\(ranks ?? 1).h5")
      let run = try await MPIRun.kinship(
        ["embed", "--image-list", list, "--text", "red cat", "“dog”", "--skip-bad", "--output", output]
          + scene.source,
        ranks: ranks)
      #expect(run.status == 0 && run.output == "/image: 148 × 16\n/text: 2 × 16\n", "\(run)")
      let told = run.errors.split(separator: "\n").filter { $0.contains("left out") }
      #expect(told.count == 2 && told[0].contains("left out: \(paths[70]): not an image"), "\(run)")
      #expect(told.last?.contains("left out: \(paths[128]): cannot be read: No such file") == true, "\(run)")
      let file = try HDF5File.open(output)
      #expect(try names(file, "image") == kept.map { paths[$0] })
      #expect(try names(file, "text") == ["red cat", "“dog”"])
      #expect(try file.attributes.integer("left_out") == 2)
      found.append(try file.dataset("image").read(Float.self) + file.dataset("text").read(Float.self))
    }
    #expect(found[0] == found[1] && found[0] == found[2])
    let expected =
      try kept.flatMap { try scene.embedding(image: scene.samples[$0].image) } + scene.embedding(text: "red cat")
      + scene.embedding(text: "“dog”")
    #expect(found[0].count == expected.count)
    for (one, other) in zip(found[0], expected) { #expect(abs(Double(one) - other) < 1e-5) }
    for ranks in [nil, 2] {
      let output = scene.folder.path("not")
      let run = try await MPIRun.kinship(
        ["embed", "--image-list", list, "--output", output] + scene.source, ranks: ranks)
      #expect(run.status == 65, "\(run)")
      #expect(run.errors.contains("cannot be embedded") && run.errors.contains("--skip-bad"), "\(run)")
      #expect(!FileManager.default.fileExists(atPath: output))
    }
  }

  @Test func foldersPatternsAndFiles() async throws {
    let scene = try EvaluationScene(count: 5)
    let paths = try write(scene) { ["b/2.png", "a.png", "b/c/1.png", "z.PNG", "note.png"][$0] }
    try scene.folder.write("own/note.txt", "no image".utf8)
    let own = scene.folder.path("own")
    for (sources, order) in [
      ([own], [1, 0, 2, 4, 3]), ([own + "/"], [1, 0, 2, 4, 3]), ([own + "/[az]*"], [1, 3]), ([own + "/b*"], [0, 2]),
      ([paths[3], paths[1], own + "/b", paths[1]], [3, 1, 0, 2, 1]),
    ] {
      let run = try await MPIRun.kinship(
        ["embed", "--output", "-"] + scene.source + ["--images"] + sources, ranks: nil)
      #expect(run.status == 0, "\(run)")
      let found = try lines(run.output)
      #expect(found.map(\.name) == order.map { paths[$0] }, "\(run)")
      for (line, image) in zip(found, order) {
        #expect(line.kind == "image")
        for (one, other) in zip(line.embedding, try scene.embedding(image: scene.samples[image].image)) {
          #expect(abs(Double(one) - other) < 1e-5)
        }
      }
    }
  }

  /// A folder that `kinship weights import` wrote is a model, and images alone need no vocabulary.
  @Test func aFolderOfWeights() async throws {
    let scene = try EvaluationScene(count: 20)
    let (model, folder) = (scene.folder.path("model"), scene.folder.path("imported"))
    let imported = try await MPIRun.kinship(
      ["weights", "import", "\(model).safetensors", "--config", "\(model).json", "-o", folder], ranks: nil)
    try #require(imported.status == 0, "\(imported)")
    let images = ["embed", "--images"] + (try write(scene) { "\($0).png" }) + ["--output", "-"]
    let wanted = try await MPIRun.kinship(images + scene.source, ranks: nil)
    let found = try await MPIRun.kinship(images + ["--checkpoint", folder], ranks: nil)
    #expect(found.status == 0 && !found.output.isEmpty && found.output == wanted.output, "\(found)")
    let texts = try await MPIRun.kinship(
      ["embed", "--text", "red", "--output", "-", "--checkpoint", folder], ranks: nil)
    #expect(texts.status == 64 && texts.errors.contains("--vocabulary is needed"), "\(texts)")
    let evaluated = try await MPIRun.kinship(
      ["evaluate", "retrieval", "--dataset", scene.dataset, "--checkpoint", folder] + scene.source.suffix(2), ranks: 2)
    #expect(evaluated.status == 0, "\(evaluated)")
  }

  @Test func textsOfStandardInput() async throws {
    let scene = try EvaluationScene(count: 1)
    let captions = ["red \"cat\"", "blue\tdog é", "old house"]
    let input = try scene.folder.write("in.txt", ("\u{FEFF}" + captions.joined(separator: "\n")).utf8)
    let output = scene.folder.path("out.jsonl")
    var found: [[Line]] = []
    let program = try MPIRun.path(of: "kinship")
    for (ranks, command) in [(1, [program]), (2, ["mpirun", "--oversubscribe", "-n", "2", program])] {
      try? FileManager.default.removeItem(atPath: output)
      let run = try await MPIRun.execute(
        ["sh", "-c", "exec \"$@\" <\(input)", "sh"] + command + ["embed", "--captions", "-", "--output", output]
          + scene.source, ranks: ranks)
      #expect(run.status == 0 && run.output == "/text: 3 × 16\n", "\(run)")
      found.append(try lines(String(contentsOfFile: output, encoding: .utf8)))
    }
    #expect(found[0].map(\.name) == captions && found[0].allSatisfy { $0.kind == "text" && $0.embedding.count == 16 })
    #expect(found[0] == found[1])
    let hdf5 = scene.folder.path("out.h5")
    let run = try await MPIRun.kinship(["embed", "--captions", input, "--output", hdf5] + scene.source, ranks: nil)
    #expect(run.status == 0, "\(run)")
    #expect(try HDF5File.open(hdf5).dataset("text").read(Float.self) == found[0].flatMap(\.embedding), "to the bit")
  }

  @Test func whatTheUserCanMend() async throws {
    let scene = try EvaluationScene(count: 1)
    let image = try write(scene) { _ in "a.png" }[0]
    try scene.folder.write("own/bad.png", [1])
    try FileManager.default.createDirectory(atPath: scene.folder.path("empty"), withIntermediateDirectories: true)
    let cases: [([String], Int, String)] = [
      (["--images", image, "--dataset", scene.dataset], 64, "both name the images"),
      (["--skip-bad", "--text", "x"], 64, "--skip-bad belongs to"), (["--text", " "], 64, "a caption is empty"),
      (["--captions", "-", "--image-list", "-"], 64, "cannot both be standard input"),
      (["--images", scene.folder.path("empty")], 65, "expected images (jpeg, jpg, png, webp), found nothing"),
      (["--images", scene.folder.path("x*")], 65, "expected files that the pattern matches, found nothing"),
      (["--images", scene.folder.path("gone.png")], 65, "gone.png” cannot be embedded: cannot be read"),
      (
        ["--images", scene.folder.path("own/bad.png"), "--skip-bad"], 65, "bad.png” cannot be embedded: not an image"
      ),
      (["--captions", scene.folder.path("gone.txt")], 74, "cannot open"),
    ]
    for (arguments, status, words) in cases {
      let run = try await MPIRun.kinship(
        ["embed", "--output", scene.folder.path("o.h5")] + scene.source + arguments, ranks: nil)
      #expect(run.status == status && run.errors.contains(words), "\(arguments) \(run)")
      #expect(!FileManager.default.fileExists(atPath: scene.folder.path("o.h5")))
    }
  }
}
