import Dist
import Foundation
import TestSupport
import Testing

@testable import Launch

/// Tars in webdataset's layout, packed by the program tar.
@Suite struct TarSourceTests {
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  /// Packs files in the order given.
  func pack(_ name: String, _ files: [(String, [UInt8])], _ options: [String] = []) async throws -> String {
    let room = UUID().uuidString
    for (file, bytes) in files { try folder.write(room + "/" + file, bytes) }
    let path = folder.path(name)
    try FileManager.default.createDirectory(
      atPath: (path as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
    let run = try await MPIRun.execute(["tar", "-C", folder.path(room)] + options + ["-cf", path] + files.map(\.0))
    #expect(run.status == 0, "\(run)")
    return path
  }

  func text(_ text: String) -> [UInt8] { Array(text.utf8) }

  func open(_ sources: [String], _ choice: SourceChoice = SourceChoice()) throws -> any ImportSource {
    try choice.open(sources, dataset: "c")
  }

  func refusal(_ sources: [String], _ choice: SourceChoice = SourceChoice()) -> String {
    #expect(throws: (any Error).self) { try open(sources, choice) }.map { "\($0)" } ?? ""
  }

  @Test func samplesOfATar() async throws {
    let path = try await pack(
      "a.tar",
      [
        ("s/0001.jpg", [1, 2]), ("s/0001.txt", text(" a fox\n\nein Fuchs\r\n")), ("s/0002.JPG", [3]),
        ("s/0002.json", text(#"{"caption": "a\nhare", "alt": ["x", "y"], "no": null}"#)), ("0003.a.jpg", [4]),
        ("0003.png", [5, 6, 7]), ("0003.txt", text("an owl")), ("README", [1]), (".hidden.jpg", [1]),
        ("__meta__.json", [1]), ("0004.webp", [8]), ("0004.cls", text("7\n")),
      ], ["--format", "pax"])
    let source = try open([path])
    #expect(source.labeled && source.count == 4)
    #expect(try source.outcome() == ["s/0001: a fox | ein Fuchs", "s/0002: a\nhare", "0003: an owl", "0004: 7"])
    let items = try source.items()
    #expect(items.map(\.path) == Array(repeating: path, count: 4))
    let file = try OpenFile.reading(path)
    let images = try items.map { item in
      let bytes = try #require(item.bytes)
      return try file.read(bytes.count, of: UInt8.self, at: bytes.lowerBound)
    }
    #expect(images == [[1, 2], [3], [5, 6, 7], [8]])
    #expect(items[0].place == "\(path): s/0001")

    let named = try open([path], SourceChoice(captionKeys: ["alt", "no", "none", "caption"]))
    let words = try named.outcome()
    #expect(words[1] == "s/0002: x | y | a\nhare")
    #expect(words[0].hasSuffix("s/0001: has no .json whose “alt” could be its caption"))
  }

  @Test func samplesThatAreLeftOut() async throws {
    let first = try await pack(
      "a.tar",
      [
        ("01.txt", text("x")), ("02.jpg", [1]), ("03.jpg", []), ("03.txt", text("x")), ("04.jpg", [1]),
        ("04.txt", [0xFF]), ("05.jpg", [1]), ("05.txt", text("a\0b")), ("06.jpg", [1]), ("06.json", text("{")),
        ("07.jpg", [1]), ("07.json", text(#"{"caption": 7}"#)), ("08.jpg", [1]), ("08.cls", text("-1")),
        ("09.jpg", [1]), ("09.JPG", [2]), ("09.txt", text("x")), ("10.jpg", [1]),
        ("10.json", text(#"{"caption": "x", "status": "failed_to_resize", "error_message": "too small"}"#)),
        ("11.jpg", [1]), ("11.txt", [UInt8](repeating: 65, count: 1 << 20 + 1)), ("12.jpg", [1]),
        ("12.txt", text("kept")), ("12.json", text(#"{"score": NaN}"#)), ("13.jpg", [1]), ("13.json", text("[]")),
        ("14.jpg", [1]), ("14.json", text(#"{"caption": " "}"#)), ("16.GIF", [1]), ("16.txt", text("x")),
      ])
    try FileManager.default.createSymbolicLink(atPath: folder.path("15.jpg"), withDestinationPath: "nowhere")
    try folder.write("15.txt", text("x"))
    let run = try await MPIRun.execute(["tar", "-C", folder.path(""), "-rf", first, "15.jpg", "15.txt"])
    #expect(run.status == 0, "\(run)")
    let words = try open([first]).outcome().map { $0.replacing(first + ": ", with: "") }
    let none = "has neither a caption nor a label"
    #expect(
      words == [
        "01: has no image (jpg, png, jpeg, webp)", "02: \(none)", "03: 03.jpg is empty",
        "04: its captions, 04.txt: it is not UTF-8: byte 0 (line 1) is 0xff; save it as UTF-8",
        "05: its captions, 05.txt: it is not text: byte 1 (line 1) is zero; save it as UTF-8",
        "06: its 06.json is not valid JSON: byte 1: the text ends too early",
        "07: its 07.json, \"caption\": expected a string or an array of them, found a number",
        "08: its label, 08.cls: expected a whole number of 0 or more, found “-1”", "09: has two files .jpg",
        "10: img2dataset says “failed_to_resize”: too small", "11: 11.txt has 1048577 bytes, more than 1048576",
        "12: kept", "13: its 13.json: expected an object, found an array", "14: \(none)",
        "16: has no image (jpg, png, jpeg, webp), but a .gif",
        "15: 15.jpg is a link to another file; pack the files themselves "
          + "(tar has --dereference and --hard-dereference)",
      ])
  }

  /// What nobody reads may be what Python's json module writes, and texts may begin with a byte order mark.
  @Test func whatOtherProgramsWrite() async throws {
    let path = try await pack(
      "a.tar",
      [
        ("1.jpg", [1]), ("1.json", text(#"{"caption": "one", "similarity": NaN, "range": [-Infinity, Infinity]}"#)),
        ("2.jpg", [1]), ("2.json", text("\u{FEFF}{\"caption\": \"two\"}")), ("3.jpg", [1]),
        ("3.txt", text("\u{FEFF}three")), ("4.jpg", [1]), ("4.json", text(#"{"caption": NaN}"#)), ("5.jpg", [1]),
        ("5.cls", text("\u{FEFF}7.0\n")),
      ])
    #expect(
      try open([path]).outcome().map { $0.replacing(path + ": ", with: "") } == [
        "1: one", "2: two", "3: three",
        "4: its 4.json, \"caption\": expected a string or an array of them, found a number", "5: 7",
      ])
    // The first bytes tell a tar without its extension.
    let unnamed = folder.path("unnamed")
    try FileManager.default.copyItem(atPath: path, toPath: unnamed)
    #expect(try open([unnamed]).count == 5)
  }

  @Test func severalTarsInTheirOrder() async throws {
    for shard in 0..<12 {
      let name = "s-\(shard < 10 ? "0" : "")\(shard)"
      _ = try await pack("in/\(name).tar", [("\(shard)a.jpg", [1]), ("\(shard)a.txt", text("of \(shard)"))])
    }
    let keys = { (range: ClosedRange<Int>) in range.map { "\($0)a: of \($0)" } }
    let inside = folder.path("in")
    #expect(try open(["\(inside)/s-{08..11}.tar"]).outcome() == keys(8...11))
    #expect(try open(["\(inside)/s-{09..07}.tar"]).outcome() == keys(7...9).reversed())
    #expect(try open([inside]).outcome() == keys(0...11))
    #expect(try open([inside], SourceChoice(format: .webdataset)).outcome() == keys(0...11))
    #expect(try open(["\(inside)/s-03.tar", "\(inside)/s-0{1,2}.tar"]).outcome() == keys(3...3) + keys(1...2))
    #expect(try open(["\(inside)/s-03.tar::\(inside)/s-{04..05}.tar"]).outcome() == keys(3...5))
    // Patterns that the shell has left as they are.
    #expect(try open(["\(inside)/s-0[45].tar"]).outcome() == keys(4...5))
    #expect(try open(["\(inside)/s-1*.tar::\(inside)/s-0?.tar"]).outcome() == keys(10...11) + keys(0...9))
    #expect(try open(["\(inside)/s-{00,1*}.tar"]).outcome() == keys(0...0) + keys(10...11))
    #expect(try open(["\(inside)*"]).outcome() == keys(0...11))
    #expect(refusal(["\(inside)/t*.tar"]) == "\(inside)/t*.tar: matches nothing; expected a tar")
    // An existing file whose name has braces is taken as it is.
    let odd = try await pack("in/s-{1..2}.tar", [("x.jpg", [1]), ("x.txt", text("odd"))])
    #expect(try open([odd]).outcome() == ["x: odd"])
  }

  @Test func keysOfSeveralTars() async throws {
    let one = try await pack("one.tar", [("1.jpg", [1]), ("1.txt", text("x")), ("2.jpg", [1]), ("2.txt", text("y"))])
    let two = try await pack("two.tar", [("3.jpg", [1]), ("3.txt", text("z")), ("2.jpg", [1]), ("2.txt", text("w"))])
    #expect(
      refusal([one, two])
        == "\(two): has a sample “2”, and so has \(one); with --keys-by-tar each key begins with its tar's name")
    let source = try open([one, two], SourceChoice(keysByTar: true))
    #expect(try source.outcome() == ["one/1: x", "one/2: y", "two/3: z", "two/2: w"])
    let split = try await pack("s.tar", [("1.jpg", [1]), ("2.jpg", [1]), ("1.txt", text("x"))])
    #expect(refusal([split]).contains("two samples have the name “1”; the files of a sample must follow one another"))
  }

  @Test func whatIsMissingIsNamedFirst() async throws {
    let path = try await pack("a-0.tar", [("1.jpg", [1]), ("1.txt", text("x"))])
    let pattern = folder.path("a-{0..4}.tar")
    #expect(
      refusal([pattern])
        == "\(folder.path("a-1.tar")): does not exist; expected a tar; 4 of the 5 that \(pattern) names are missing")
    #expect(refusal([path, folder.path("b.tar")]) == "\(folder.path("b.tar")): does not exist; expected a tar")
    #expect(refusal([folder.path("a-{0..4.tar")]).contains("opens a brace that is not closed"))
    try folder.write("empty/x", [])
    #expect(refusal([folder.path("empty")], SourceChoice(format: .webdataset)).contains("holds no .tar"))
    try folder.write("none.tar", TarBytes.end)
    #expect(refusal([folder.path("none.tar")]).contains("holds no sample"))
    let many = (0...1000).flatMap { TarBytes.header("a.\($0)") } + TarBytes.end
    #expect(refusal([try folder.write("many.tar", many)]).contains("the sample “a” has more than 1000 files"))
  }

  @Test func optionsThatDoNotBelong() async throws {
    let path = try await pack("a.tar", [("1.jpg", [1]), ("1.txt", text("x"))])
    for (choice, option) in [
      (SourceChoice(images: "x"), "--images"), (SourceChoice(splits: ["test"]), "--split"),
      (SourceChoice(wnids: "x"), "--wnids"),
    ] {
      #expect(refusal([path], choice).contains("\(option) does not apply to the format webdataset"))
    }
    let table = try folder.write("t.tsv", "filepath\ttitle\na\tb\n".utf8)
    #expect(
      refusal([table], SourceChoice(captionKeys: ["x"])).contains("--caption-keys does not apply to the format table"))
    #expect(
      refusal([table], SourceChoice(keysByTar: true)).contains("--keys-by-tar does not apply to the format table"))
    #expect(
      refusal([table, table], SourceChoice(format: .table)).contains("only tars can be imported several at once"))
    #expect(refusal([table, table]).contains("t.tsv: is not a tar by its name; only tars can be imported several"))
    #expect(refusal([folder.path("*.tsv")]).contains("t.tsv: is not a tar by its name"))
    let home = try #require(ProcessInfo.processInfo.environment["HOME"])
    #expect(refusal(["\(path)::~/nowhere.tar"]).contains("\(home)/nowhere.tar: does not exist"))
  }

  @Test func importedByTheProgram() async throws {
    let files = (0..<5).flatMap { index in
      [
        ("\(index).png", TestImage.png(color: (UInt8(index), 0, 0))), ("\(index).txt", text("image \(index)")),
      ]
    }
    _ = try await pack("w-0.tar", Array(files.prefix(6)), ["--format", "gnu"])
    _ = try await pack("w-1.tar", Array(files.dropFirst(6)) + [("5.jpg", [1, 2]), ("5.txt", text("bad"))])
    let output = folder.path("out")
    let arguments = ["dataset", "import", folder.path("w-{0..1}.tar"), "--output", output, "--shard-samples", "2"]
    let run = try await MPIRun.kinship(arguments, ranks: nil)
    #expect(run.status == 0 && run.output.contains("out: 5 images, 5 captions in 3 shards"), "\(run)")
    #expect(
      run.output.contains("left out: 1, listed in rejected.tsv\n  \(folder.path("w-1.tar")): 5: not an image"),
      "\(run)")
    let dataset = try Dataset.open(output, check: .checksums)
    #expect((0..<5).map { dataset.key($0) } == ["0", "1", "2", "3", "4"])
    for index in 0..<5 {
      #expect(try dataset.image(index) == TestImage.png(color: (UInt8(index), 0, 0)))
      #expect(dataset.captions(index) == ["image \(index)"])
    }
    // A missing or truncated tar is found before anything is written.
    let whole = try Data(contentsOf: URL(filePath: folder.path("w-1.tar")))
    try whole.prefix(1600).write(to: URL(filePath: folder.path("w-2.tar")))
    for (source, words) in [("w-{0..3}.tar", "w-3.tar: does not exist"), ("w-{0..2}.tar", "w-2.tar: ")] {
      let refused = try await MPIRun.kinship(
        ["dataset", "import", folder.path(source), "--output", folder.path("other")], ranks: nil)
      #expect(refused.status == 65 && refused.errors.contains(words), "\(refused)")
      #expect(!FileManager.default.fileExists(atPath: folder.path("other")))
    }
  }
}
