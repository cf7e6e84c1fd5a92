import Foundation
import TestSupport
import Testing

/// The scripts around the ablation; what they train is tried by `scripts/test`.
@Suite struct AblationTests {
  private static let scripts = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().appending(path: "scripts", directoryHint: .isDirectory)

  private static func run(_ script: String, _ arguments: [String]) async throws -> MPIRun {
    try await MPIRun.execute(["env", scripts.appending(path: script).path] + arguments)
  }

  private static func image(_ width: Int, _ height: Int) -> [UInt8] {
    PNGImage.encode(width: width, height: height, rgb: Array(repeating: 90, count: 3 * width * height))
  }

  // MARK: Tables of images

  @Test func stampsHaveSentencesAndLettersAreLeftOut() async throws {
    let folder = try TemporaryFolder()
    let root = "packages/tuxpaint-stamps-default/usr/share/tuxpaint/stamps/"
    for name in ["animals/fox", "animals/fox_mirror", "town/wordless", "symbols/alphabets/a", "symbols/math/7", "thin"]
    {
      try folder.write("\(root)\(name).png", Self.image(name == "thin" ? 15 : 300, 150))
    }
    for name in ["animals/fox", "symbols/alphabets/a", "symbols/math/7", "thin"] {
      try folder.write("\(root)\(name).txt", "A \(name.suffix(3)).\nde.utf8=Ein Fuchs.\n".utf8)
    }
    let run = try await Self.run("image-tables", ["stamps", folder.path("packages"), folder.path("")])
    #expect(run.status == 0, "\(run)")
    #expect(run.output.contains("2 images, 1 distinct titles; 1 left out"), "\(run)")
    let table = try String(contentsOfFile: folder.path("stamps.tsv"), encoding: .utf8)
    let expected = """
      filepath\ttitle\tkeywords\tkey
      images/animals/fox.png\tA fox.\t\tanimals/fox
      images/animals/fox_mirror.png\tA fox.\t\tanimals/fox_mirror

      """
    #expect(table == expected)
    let copy = try Data(contentsOf: URL(filePath: folder.path("images/animals/fox.png")))
    // Width and height stand big-endian behind the signature and the first chunk's name.
    #expect(Array(copy[16..<24]) == [0, 0, 0, 128, 0, 0, 0, 64])
  }

  @Test func clipArtTitlesAreCleanedAndCollectionsLeftOut() async throws {
    let folder = try TemporaryFolder()
    let titles = [
      "red_fox_01": "Clipart by Ann Drew - red_fox 12", "bread": "Bread (B &amp;amp; W)",
      "lizard": "L&amp;Atilde;&amp;copy;zard",
      "io": "IO", "set1": "Set", "set2": "Set", "set3": "Set", "set4": "Set", "set5": "Set",
    ]
    let keywords = ["mammal", "", "hash(0x8589f20)", "ann drew", "map_symbol", "unsorted", "12", "http://a.example"]
    for (name, title) in titles {
      let words = keywords.map { "<rdf:li>\($0)</rdf:li>" }.joined()
      let metadata = """
        <svg><metadata><rdf:RDF><dc:title>\(title)</dc:title><rdf:Bag>\(words)</rdf:Bag><dc:publisher><dc:title>Library
        </dc:title></dc:publisher><dc:creator><cc:Agent><dc:title>Ann Drew</dc:title></cc:Agent></dc:creator></rdf:RDF>
        </metadata></svg>
        """
      try folder.write("packages/openclipart-svg/usr/share/openclipart/svg/x/\(name).svg", metadata.utf8)
      try folder.write("packages/openclipart-png/usr/share/openclipart/png/x/\(name).png", Self.image(20, 20))
    }
    let run = try await Self.run("image-tables", ["clipart", folder.path("packages"), folder.path("")])
    #expect(run.status == 0, "\(run)")
    let table = try String(contentsOfFile: folder.path("clipart.tsv"), encoding: .utf8)
    let expected = """
      filepath\ttitle\tkeywords\tkey
      images/x/bread.png\tBread\tmammal, map symbol\tx/bread
      images/x/lizard.png\tLézard\tmammal, map symbol\tx/lizard
      images/x/red_fox_01.png\tred fox\tmammal, map symbol\tx/red_fox_01

      """
    #expect(table == expected)
  }

  @Test func anotherPackageIsRefused() async throws {
    let folder = try TemporaryFolder()
    let run = try await Self.run("image-tables", ["stamps", folder.path(""), folder.path("")])
    #expect(run.status == 1, "\(run)")
    #expect(run.errors.contains("no images in"), "\(run)")
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path("")) == [])
  }

  // MARK: The ablation

  /// Two seeds of two presets: naming always goes up, finding goes down, subgroups disagree.
  private static func figures(in folder: TemporaryFolder) throws {
    for (run, naming, finding, subgroup) in [
      ("teacher", 0.5, 0.5, 0.5), ("clip-seed-1", 0.10, 0.30, 0.20), ("clip-seed-2", 0.20, 0.32, 0.20),
      ("standard-seed-1", 0.16, 0.25, 0.19), ("standard-seed-2", 0.28, 0.29, 0.22), ("intra-seed-3", 0.4, 0.4, 0.4),
    ] {
      let retrieval = """
        {"image_to_text": {"R@1": \(naming), "R@5": \(naming)}, "text_to_image": {"R@1": \(finding), "R@5": \(finding)}}
        """
      try folder.write("\(run)/retrieval.json", retrieval.utf8)
      try folder.write("\(run)/zero-shot.json", "{\"top1\": \(subgroup), \"top5\": \(subgroup)}".utf8)
    }
    // Not yet evaluated in full.
    try folder.write("tinyclip-seed-1/retrieval.json", "{}".utf8)
  }

  @Test func tableHasMeansSpreadsAndVerdicts() async throws {
    let folder = try TemporaryFolder()
    try Self.figures(in: folder)
    let run = try await Self.run("ablation-table", [folder.path("")])
    #expect(run.status == 0, "\(run)")
    #expect(run.output == (try String(contentsOfFile: folder.path("ablation.md"), encoding: .utf8)))
    let clip =
      "| student, no distillation (`clip`) | 2 | 15.0 ± 7.1 | 15.0 ± 7.1 | 31.0 ± 1.4 | 31.0 ± 1.4 | 20.0 ± 0.0 |"
    let standard =
      "| `standard` > `clip` | +7.0 ± 1.4 holds | +7.0 ± 1.4 holds | -4.0 ± 1.4 fails | -4.0 ± 1.4 fails |"
      + " +0.5 ± 2.1 open | +0.5 ± 2.1 open | +11.3 | +6.0 | +5.5 |"
    for line in [clip, standard, "| teacher | 1 | 50.0 |", "67.1 | 39.5 | 36.5 |"] {
      #expect(run.output.contains(line), "\(line) in \(run)")
    }
    // intra has another seed than the others: nothing to compare.
    #expect(!run.output.contains("`intra` >"), "\(run)")
    #expect(!run.output.contains("tinyclip"), "\(run)")
    let json = try JSONSerialization.jsonObject(with: Data(contentsOf: URL(filePath: folder.path("ablation.json"))))
    let orderings = try #require((json as? [String: Any])?["orderings"] as? [[String: Any]])
    #expect(orderings.count == 1)
  }

  @Test func dryRunShowsWhatIsLeft() async throws {
    let folder = try TemporaryFolder()
    try Self.figures(in: folder)
    try folder.write("intra-seed-2/checkpoints/latest", [])
    let run = try await Self.run(
      "ablation", ["--runs", folder.path(""), "--only", "clip,intra", "--seeds", "1,2", "--dry-run"])
    #expect(run.status == 0, "\(run)")
    let states = run.output.split(separator: "\n").map { $0.split(separator: " ", maxSplits: 1) }
      .map { "\($0[0]): \($0[1].trimmingCharacters(in: .whitespaces))" }
    #expect(
      states == [
        "teacher: finished", "clip-seed-1: finished", "intra-seed-1: to do", "clip-seed-2: finished",
        "intra-seed-2: begun",
      ])
  }

  @Test(arguments: [
    (["--only", "clip,none"], "no preset 'none'"), (["--seeds", "1,x"], "'1,x'"), (["--steps", "0"], "'0'"),
    (["--ranks"], "--ranks needs a value"), (["--fast"], "unknown argument --fast"),
  ])
  func wrongArgumentsAreRefused(_ arguments: [String], _ words: String) async throws {
    let run = try await Self.run("ablation", arguments)
    #expect(run.status == 64, "\(run)")
    #expect(run.errors.contains(words), "\(run)")
  }
}
