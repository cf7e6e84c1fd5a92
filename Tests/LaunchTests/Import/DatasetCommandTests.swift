import Dist
import Foundation
import TestSupport
import Testing

@testable import Launch

/// Runs the program itself on real files.
@Suite struct DatasetCommandTests {
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  func kinship(_ arguments: [String], ranks: Int? = nil) async throws -> MPIRun {
    try await MPIRun.kinship(["dataset"] + arguments, ranks: ranks)
  }

  /// Makes a table of valid images and every kind of invalid one, each with the message that it must give.
  func mixedTable() throws -> (path: String, reasons: [String]) {
    try folder.write("p/a.png", TestImage.png(color: (1, 2, 3)))
    try folder.write("p/b.png", TestImage.png(width: 3, height: 9))
    try folder.write("p/cut.png", TestImage.png().dropLast(30))
    try folder.write("p/huge.png", TestImage.claiming(width: 30_000, height: 30_000))
    try folder.write("p/text.png", "no image".utf8)
    try folder.write("p/empty.png", [])
    #expect(mkfifo(folder.path("p/pipe.png"), 0o600) == 0)
    let names = ["cut", "a", "huge", "text", "empty", "pipe", "gone", "b", "."]
    let lines = names.map {
      "p/\($0 == "." ? "." : $0 + ".png"),\"a \"\"\($0)\"\"\n🦊\",second\($0 == "b" ? "" : " \($0)")"
    }
    let path = try folder.write("t.csv", Array(("filepath,title,alt\n" + lines.joined(separator: "\n")).utf8))
    return (
      path,
      [
        "line 2\tp/cut\tdamaged PNG image", "line 6\tp/huge\tPNG image of 30000 × 30000 pixels, more than",
        "line 8\tp/text\tnot an image", "line 10\tp/empty\t", "line 12\tp/pipe\t", "line 14\tp/gone\t",
        "line 18\tp/.\t",
      ]
    )
  }

  @Test func importInspectVerify() async throws {
    let (table, reasons) = try mixedTable()
    let run = try await kinship(["import", table, "--output", folder.path("out"), "--caption-columns", "title,alt"])
    #expect(run.status == 0, "\(run)")
    #expect(run.output.contains("out: 2 images, 4 captions in 1 shard"), "\(run)")
    #expect(run.output.contains("left out: 7, listed in rejected.tsv"), "\(run)")

    let dataset = try Dataset.open(folder.path("out"), check: .checksums)
    #expect((0..<2).map { dataset.key($0) } == ["p/a", "p/b"])
    #expect(try dataset.image(0) == TestImage.png(color: (1, 2, 3)), "stored byte for byte")
    #expect(dataset.captions(0) == ["a \"a\"\n🦊", "second a"])
    #expect(dataset.name == "out")

    let list = try String(contentsOfFile: folder.path("out/rejected.tsv"), encoding: .utf8).split(separator: "\n")
    #expect(list.count == 8)
    for (line, words) in zip(list.dropFirst(), reasons) { #expect(line.hasPrefix(words), "\(line)") }

    let inspection = try await kinship(["inspect", folder.path("out")])
    #expect(inspection.status == 0)
    #expect(inspection.output.contains("p/b: 3 × 9 PNG"), "\(inspection)")
    let json = try await kinship(["inspect", folder.path("out/corpus.json"), "--json", "--samples", "1"])
    let object = try JSONSerialization.jsonObject(with: Data(json.output.utf8)) as? [String: Any]
    #expect(object?["samples"] as? Int == 2)
    #expect(object?["distinct_captions"] as? Int == 4)
    #expect((object?["first"] as? [Any])?.count == 1)

    let verification = try await kinship(["verify", folder.path("out")])
    #expect(verification.status == 0)
    #expect(verification.output.hasPrefix("shard-00000.h5: 2 samples, "))
    #expect(verification.output.hasSuffix(": ok\n"))
  }

  @Test func damageIsNamedWithCode65() async throws {
    for i in 0..<4 { try folder.write("in/\(i % 2)/\(i).png", TestImage.png(color: (UInt8(i), 0, 0))) }
    let run = try await kinship(["import", folder.path("in"), "--output", folder.path("c"), "--shard-samples", "2"])
    #expect(run.status == 0, "\(run)")
    #expect(run.output.contains("4 images, 0 captions, 2 classes in 2 shards"))
    #expect(run.output.contains("\nlabels: whole numbers from 0 to 1\n"), "\(run)")
    let shard = folder.path("c/shard-00001.h5")
    let handle = try #require(FileHandle(forUpdatingAtPath: shard))
    try handle.truncate(atOffset: try handle.seekToEnd() - 1)
    try handle.close()
    let verification = try await kinship(["verify", folder.path("c")])
    #expect(verification.status == 65)
    #expect(verification.output.contains("shard-00000.h5: 2 samples, "))
    #expect(verification.output.contains("BAD, is truncated"))
    #expect(verification.errors.contains("1 of 2 shards is bad: shard-00001.h5"))
    let inspection = try await kinship(["inspect", folder.path("c")])
    #expect(inspection.status == 65)
    #expect(inspection.errors.contains("shard-00001.h5: is truncated"))
    try FileManager.default.removeItem(atPath: shard)
    let gone = try await kinship(["verify", folder.path("c")])
    #expect(gone.status == 65)
    #expect(gone.output.contains("shard-00001.h5: 2 samples"))
    #expect(gone.output.contains("BAD, is missing"))
  }

  @Test func theOutputFolderIsNotFilledTwice() async throws {
    try folder.write("in/x/1.png", TestImage.png())
    try folder.write("out/mine.txt", [1])
    let arguments = ["import", folder.path("in"), "--output", folder.path("out")]
    let refused = try await kinship(arguments)
    #expect(refused.status == 65)
    #expect(refused.errors.contains("is not empty"))
    #expect(try await kinship(arguments + ["--overwrite"]).status == 0)
    let again = try await kinship(arguments + ["--overwrite", "--name", "again"])
    #expect(again.status == 0 && again.output.hasPrefix("again: 1 image, 0 captions, 1 class in 1 shard, "), "\(again)")
    #expect(again.output.hasSuffix("\nlabels: names in the order of their bytes: 0 is x\n"), "\(again)")
    let missing = try folder.write("missing.tsv", "filepath\ttitle\nnowhere.png\tx\n".utf8)
    let failed = try await kinship(["import", missing, "--output", folder.path("out"), "--overwrite"])
    #expect(failed.status == 65, "\(failed)")
    #expect(try Dataset.open(folder.path("out"), check: .checksums).name == "again")
    #expect(FileManager.default.fileExists(atPath: folder.path("out/mine.txt")))
  }

  @Test func oneOfSeveralRanksImports() async throws {
    try folder.write("in/x/1.png", TestImage.png())
    let run = try await kinship(["import", folder.path("in"), "--output", folder.path("out")], ranks: 2)
    #expect(run.status == 0, "\(run)")
    #expect(run.lines.count == 2 && run.lines[1].hasPrefix("out: 1 image, "), "\(run)")
    #expect(try Dataset.open(folder.path("out")).count == 1)
  }

  @Test func nothingImportedIsAnErrorAndNoDataset() async throws {
    try folder.write("in/x/1.png", [1, 2, 3])
    let run = try await kinship(["import", folder.path("in"), "--output", folder.path("out")])
    #expect(run.status == 65)
    #expect(run.errors.contains("the one image could not be imported: x/1.png: not an image"), "\(run)")
    #expect(!FileManager.default.fileExists(atPath: folder.path("out/corpus.json")))
  }

  @Test func whatTheUserCanMend() async throws {
    try folder.write("in/x/1.png", TestImage.png())
    let source = folder.path("in")
    try FileManager.default.createSymbolicLink(
      atPath: folder.path("link"), withDestinationPath: folder.path("nowhere"))
    let cases: [([String], Int, String)] = [
      (["import", folder.path("nowhere"), "--output", folder.path("o")], 65, "does not exist"),
      (["import", source, "--output", folder.path("in/x/1.png")], 65, "is a file"),
      (["import", source, "--output", folder.path("in/x/1.png/o")], 74, "1.png/o: Not a directory"),
      (["import", source, "--output", folder.path("link")], 74, "a link of this name leads to nothing"),
      (["import", source, "--output", folder.path("o"), "--max-pixels", "0"], 64, "--max-pixels must be"),
      (["import", source, "--output", folder.path("o"), "--separator", "ab"], 64, "separator"),
      (["import", source], 64, "--output"),
      (["inspect", source], 65, "not a dataset"),
      (["verify", folder.path("nowhere")], 65, "does not exist"),
    ]
    for (arguments, status, words) in cases {
      let run = try await kinship(arguments)
      #expect(run.status == status, "\(arguments) \(run)")
      #expect(run.errors.contains(words), "\(arguments) \(run)")
    }
  }

  /// A pipe without a writer is not a list, and does not block the program.
  @Test(arguments: ["list.json", "list.csv"]) func aPipeIsNoList(name: String) async throws {
    #expect(mkfifo(folder.path(name), 0o600) == 0)
    let run = try await kinship(["import", folder.path(name), "--output", folder.path("out")])
    #expect(run.status == 74, "\(run)")
    #expect(run.errors.contains("\(name)") && run.errors.contains("it is not a file"), "\(run)")
  }

  @Test func theHelpNamesEveryForm() async throws {
    let help = try await kinship(["import", "--help"])
    #expect(help.status == 0)
    for form in ImportFormat.allCases { #expect(help.output.contains(form.rawValue), "\(help)") }
    for option in ["--format", "--images", "--split", "--wnids"] { #expect(help.output.contains(option), "\(help)") }
    let unknown = try await kinship(["import", "x", "--output", "y", "--format", "coca"])
    #expect(unknown.status == 64 && unknown.errors.contains("karpathy"), "\(unknown)")
  }

  @Test func aLimitOnPixels() async throws {
    try folder.write("in/x/1.png", TestImage.png(width: 10, height: 10))
    try folder.write("in/x/2.png", TestImage.png(width: 10, height: 11))
    let run = try await kinship(
      ["import", folder.path("in"), "--output", folder.path("out"), "--max-pixels", "100", "--workers", "3"])
    #expect(run.status == 0)
    #expect(run.output.contains("x/2.png: PNG image of 10 × 11 pixels, more than --max-pixels 100"), "\(run)")
  }
}
