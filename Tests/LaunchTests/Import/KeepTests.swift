import Dist
import Foundation
import TestSupport
import Testing

@testable import Launch

/// `kinship dataset import --keep`: samples are kept by numbers that their source or a table has for them.
@Suite struct KeepTests {
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  func importing(_ source: String, _ options: [String]) async throws -> MPIRun {
    try await MPIRun.kinship(["dataset", "import", source, "--output", folder.path("out")] + options, ranks: nil)
  }

  func keys(_ name: String = "out") throws -> [String] {
    let dataset = try Dataset.open(folder.path(name), check: .checksums)
    return (0..<dataset.count).map { dataset.key($0) }
  }

  func expectNothing(_ run: MPIRun, _ status: Int, _ words: String, at location: SourceLocation = #_sourceLocation) {
    #expect(run.status == status && run.errors.contains(words), "\(run)", sourceLocation: location)
    #expect(!FileManager.default.fileExists(atPath: folder.path("out/corpus.json")), sourceLocation: location)
  }

  /// Writes a table of one image under several keys, with a number for each.
  func table(_ numbers: [String]) throws -> String {
    try folder.write("p.png", TestImage.png())
    let lines = numbers.enumerated().map { "p.png\ta fox\tk\($0.offset)\t\($0.element)" }
    return try folder.write(
      "t.tsv", (["filepath\ttitle\tid\tsimilarity"] + lines).joined(separator: "\n").utf8)
  }

  @Test func conditions() throws {
    for (text, description, met, unmet) in [
      ("similarity>0.28", "similarity>0.28", [0.29, 1], [0.28, -1]),
      ("a b >= -1e-3", "a b>=-0.001", [-0.001], [-0.002]), ("x<3", "x<3", [2.9], [3]),
      ("x <=3", "x<=3", [3], [3.1]), ("x==2", "x==2", [2], [1, 3]),
    ] as [(String, String, [Double], [Double])] {
      let condition = try KeepCondition.parse(text)
      #expect("\(condition)" == description)
      #expect(met.allSatisfy(condition.holds) && !unmet.contains(where: condition.holds), "\(text)")
    }
    for (text, words) in [
      ("similarity", "expected a column, one of >=, <=, ==, >, <, and a number"),
      (">0.28", "no column stands before >"), ("x=1", "expected a column, one of"),
      ("x>", "expected a number after >, found ''"),
      ("x>nan", "expected a number after >, found 'nan'"), ("x>0x10", "found '0x10'"), ("x>>1", "found '>1'"),
      ("x<1e999", "found '1e999'"),
    ] {
      let error = #expect(throws: (any Error).self) { try KeepCondition.parse(text) }
      #expect("\(error.map { "\($0)" } ?? "")".contains(words), "\(text): \(String(describing: error))")
    }
  }

  /// Kept samples stand in the order of the table, and more are left out than a batch has.
  @Test func columnsOfATable() async throws {
    let numbers = (0..<150).map { $0 == 3 || $0 == 149 ? "0.31" : "0.1" } + ["0.5", "", "high", "nan", "3e-1"]
    let source = try table(numbers)
    let run = try await importing(
      source, ["--key-column", "id", "--keep", "similarity>0.3", "--keep", "similarity <= 0.4"])
    #expect(run.status == 0 && run.output.hasPrefix("out: 2 images, 2 captions in 1 shard"), "\(run)")
    let kept =
      "kept: 2 of 155 samples by --keep; left out 149 by similarity>0.3, 3 without a number in similarity, "
      + "1 by similarity<=0.4"
    #expect(run.output.contains("\n\(kept)\n") || run.output.hasSuffix("\n\(kept)\n"), "\(run)")
    #expect(try keys() == ["k3", "k149"])
    #expect(!FileManager.default.fileExists(atPath: folder.path("out/rejected.tsv")))
  }

  @Test func aTableThatKeepsNothing() async throws {
    let source = try table(["0.1", "0.2"])
    let options = ["--key-column", "id", "--keep"]
    expectNothing(
      try await importing(source, options + ["similarity>0.3"]), 65,
      "none of 2 images could be imported; kept: 0 of 2 samples by --keep; left out 2 by similarity>0.3")
    expectNothing(
      try await importing(source, options + ["score>0.3"]), 65,
      "has no column \"score\"; it has \"filepath\", \"title\", \"id\", \"similarity\"; name the right one with --keep")
    expectNothing(try await importing(source, options + ["similarity=0.3"]), 64, "expected a column, one of")
    expectNothing(
      try await importing(source, ["--scores", "x.tsv"]), 64, "--scores is read for --keep alone")
  }

  /// Members .json of tars, as img2dataset writes them: captions still come from the texts.
  @Test func keysOfTars() async throws {
    let values = [
      "\"similarity\": 0.5", "\"similarity\": 1", "\"similarity\": \"0.9\"", "\"similarity\": NaN", "\"a\": 1",
    ]
    var tar: [UInt8] = []
    for (index, value) in values.enumerated() {
      tar += TarBytes.member("\(index).png", TestImage.png()) + TarBytes.member("\(index).txt", "text \(index)".utf8)
      let json = "{\"caption\": \"json \(index)\", \"url\": \"u\", \(value)}"
      tar += TarBytes.member("\(index).json", json.utf8)
    }
    tar += TarBytes.member("5.png", TestImage.png()) + TarBytes.member("5.txt", "without".utf8)
    tar += TarBytes.member("6.png", TestImage.png()) + TarBytes.member("6.txt", "bad".utf8)
    tar += TarBytes.member("6.json", "{".utf8) + TarBytes.member("7.png", [1]) + TarBytes.member("7.txt", "x".utf8)
    tar += TarBytes.member("7.json", #"{"similarity": 3}"#.utf8)
    let source = try folder.write("a.tar", tar + TarBytes.end)
    let run = try await importing(source, ["--keep", "similarity>=0.5"])
    #expect(run.status == 0, "\(run)")
    #expect(run.output.contains("kept: 3 of 8 samples by --keep; left out 5 without a number in similarity"), "\(run)")
    #expect(run.output.contains("left out: 1, listed in rejected.tsv\n  \(source): 7: not an image"), "\(run)")
    #expect(try keys() == ["0", "1"])
    #expect(try Dataset.open(folder.path("out")).captions(1) == ["text 1"])
    try FileManager.default.removeItem(atPath: folder.path("out"))
    expectNothing(
      try await importing(source, ["--keep", "clip>0", "--keep", "similarity>0"]), 65,
      "no sample has the column “clip” that --keep names; the first one has \"caption\", \"url\", \"similarity\": name")
  }

  /// JSON beside images is read for numbers alone: it neither makes captions nor keeps folders from being classes.
  @Test func filesOfAFolder() async throws {
    for (index, name) in ["x/1", "x/2", "y/3"].enumerated() {
      try folder.write("in/\(name).png", TestImage.png())
      try folder.write("in/\(name).json", #"{"caption": "no", "width": \#(index)}"#.utf8)
    }
    let run = try await importing(folder.path("in"), ["--keep", "width>0"])
    #expect(run.status == 0 && run.output.hasPrefix("out: 2 images, 0 captions, 2 classes in 1 shard"), "\(run)")
    #expect(try keys() == ["x/2", "y/3"])
  }

  /// A table of scores belongs to any source, and a dataset is one. Images and all else stay as they are.
  @Test func scoresOfADataset() async throws {
    let samples = (0..<40).map { index in
      DatasetSample(
        image: TestImage.png(color: (UInt8(index), 0, 0)),
        captions: (0...index % 2).map { "caption \($0) of \(index)" },
        key: index == 7 ? "a \"tab\"\there" : "deep/\(index)", label: index % 3 == 2 ? nil : index % 3)
    }
    var writer = try DatasetWriter(
      name: "all", folder: folder.path("all"), labeled: true, labels: ["one", "two"], limits: .init(samples: 16))
    for sample in samples { try writer.append(sample) }
    _ = try writer.finish()
    // In another order, without two samples, and with a line of no sample.
    let lines = samples.indices.reversed().filter { $0 != 20 && $0 != 21 }.map { index in
      ScoreTable.line(["\(index)", samples[index].key, index == 30 ? "" : "\(Double(index) / 40)"])
    }
    let scores = try folder.write(
      "scores.tsv",
      ScoreTable.line(["row", "key", "similarity"]) + lines.joined() + ScoreTable.line(["x", "none", "1"]))
    let run = try await importing(folder.path("all"), ["--scores", scores, "--keep", "similarity>=0.5"])
    #expect(run.status == 0, "\(run)")
    #expect(
      run.output.contains(
        "kept: 17 of 40 samples by --keep; left out 20 by similarity>=0.5, 3 without a number in similarity"), "\(run)")
    let kept = samples.indices.filter { $0 >= 22 && $0 != 30 }
    let dataset = try Dataset.open(folder.path("out"), check: .checksums)
    #expect(dataset.name == "out" && dataset.index.labels == ["one", "two"] && dataset.count == kept.count)
    for (place, index) in kept.enumerated() {
      #expect(try dataset.image(place) == samples[index].image && dataset.key(place) == samples[index].key)
      #expect(dataset.captions(place) == samples[index].captions && dataset.label(place) == samples[index].label)
    }
    // A dataset may be replaced by a part of itself.
    let own = try await MPIRun.kinship(
      [
        "dataset", "import", folder.path("all/corpus.json"), "--output", folder.path("all"), "--overwrite", "--scores",
        scores, "--keep", "similarity<0.2", "--keep", "row==7",
      ], ranks: nil)
    #expect(own.status == 0 && own.output.hasPrefix("all: 1 image, 2 captions, 1 class"), "\(own)")
    #expect(try keys("all") == ["a \"tab\"\there"])
    #expect(try Dataset.open(folder.path("all")).image(0) == samples[7].image)
  }

  @Test func tablesOfScoresThatDoNotServe() async throws {
    try folder.write("in/x/1.png", TestImage.png())
    let imported = try await MPIRun.kinship(
      ["dataset", "import", folder.path("in"), "--output", folder.path("all")], ranks: nil)
    try #require(imported.status == 0, "\(imported)")
    let all = folder.path("all")
    let keep = ["--keep", "similarity>0.1"]
    expectNothing(
      try await importing(all, keep), 64,
      "a source of the format dataset has no column “similarity” for --keep; name a table with the columns key")
    for (text, words) in [
      ("key\tsimilarity\nx\t1\n", "no sample has the column “similarity” that --keep names; the first one has the key"),
      ("id\tsimilarity\nx/1\t1\n", "has no column \"key\" with the keys of samples; it has \"id\", \"similarity\""),
      ("key\tclip\nx/1\t1\n", "has none of the columns that --keep names, \"similarity\"; it has \"key\", \"clip\""),
      ("key\tsimilarity\n", "has a header and nothing below it"), ("", "the table is empty"),
      ("key\tsimilarity\tsimilarity\nx/1\t1\t1\n", "has the column \"similarity\" more than once"),
      ("key\tsimilarity\nx/1\t1\nx/1\t1\n", "scores.tsv:3: has the key \"x/1\" of an earlier line"),
      ("key\tsimilarity\nx/1\n", "scores.tsv:2: has 1 field, expected 2 as in the header"),
      ("key\tsimilarity\n\t1\n", "scores.tsv:2: its key is empty"),
    ] {
      let scores = try folder.write("scores.tsv", text.utf8)
      expectNothing(try await importing(all, keep + ["--scores", scores]), 65, words)
    }
    let list = try folder.write("coco.json", #"{"images": [], "annotations": [{"caption": "x"}]}"#.utf8)
    expectNothing(try await importing(list, keep), 64, "a source of the format coco has no column “similarity”")
    let other = try folder.write("scores.csv", "clip,key\n1,x/1\n".utf8)
    expectNothing(
      try await importing(all, keep + ["--keep", "clip>0", "--scores", other]), 64,
      "a source of the format dataset has no column “similarity”")
    let gone = folder.path("gone.tsv")
    expectNothing(try await importing(all, keep + ["--scores", gone]), 74, "cannot open \(gone)")
  }
}
