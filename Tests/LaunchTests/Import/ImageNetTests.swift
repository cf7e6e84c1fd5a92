import Dist
import Foundation
import TestSupport
import Testing

@testable import Launch

/// ImageNet and its variants, in their public layouts: labels are positions among the 1,000 classes.
@Suite struct ImageNetTests {
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  func write(_ names: [String]) throws { for name in names { try folder.write(name, [1]) } }

  func open(_ name: String, _ choice: SourceChoice = SourceChoice()) throws -> any ImportSource {
    try choice.open(folder.path(name), dataset: "c")
  }

  func refusal(_ name: String, _ choice: SourceChoice = SourceChoice()) -> String {
    #expect(throws: (any Error).self) { try open(name, choice) }.map { "\($0)" } ?? ""
  }

  /// Writes the 1,000 ids to a file, one a line.
  func list(_ names: [String] = TestIDs.all) throws -> String {
    try folder.write("wnids.txt", names.joined(separator: "\n").utf8)
  }

  @Test func numbersAreLabels() throws {
    try write((0..<12).map { "v2/\($0)/\(String(repeating: "ab", count: 20))\($0).jpeg" })
    for path in ["v2", ""] {
      let source = try open(path)
      #expect(source.labeled && source.labels == [])
      let items = try source.items()
      // In the order of bytes, 10 and 11 come before 2.
      #expect(items.map(\.label) == [0, 1, 10, 11, 2, 3, 4, 5, 6, 7, 8, 9])
      for item in items { #expect(item.path.contains("/\(item.label ?? -1)/")) }
    }
    // As names they have another order.
    #expect(try open("v2", SourceChoice(format: .folder)).items().map(\.label) == Array(0..<12))
    try write(["v2/03/x.jpeg"])
    #expect(refusal("v2").contains("two of its folders are the same number"))
    try write(["v2/n01440764/x.jpeg"])
    #expect(refusal("v2").contains("named by whole numbers, such as 0, and beside them the folder n01440764"))
    #expect(try open("v2", SourceChoice(format: .folder)).labels.count == 14, "names of both kinds are only names")
    #expect(refusal("v2", SourceChoice(format: .imagenetV2)).contains("in a folder named by numbers"))
  }

  /// A folder that pandas or a script has named by a number with a fraction is a number, as in a column of labels.
  @Test func oddFoldersRenumberNothing() throws {
    try write(["f/0.0/x.png", "f/2.0/x.png", "f/10.0/x.png"])
    #expect(try open("f").items().map(\.label) == [0, 10, 2])
    try write(["n/n01440764/x.png", "n/misc/x.png", "m/7/x.png", "m/-1/x.png", "t/7/x.png", "t/8/x.png", "t/z.png"])
    #expect(refusal("n").contains("named by WordNet ids, such as n01440764, and beside them the folder misc"))
    #expect(refusal("m").contains("named by whole numbers, such as 7, and beside them the folder -1"))
    #expect(refusal("t").contains("named by whole numbers, such as 7, and beside them z.png"))
    #expect(try open("m", SourceChoice(format: .folder)).labels == ["-1", "7"])
  }

  @Test func aSubsetOfImageNet() throws {
    let chosen = [3, 7, 256, 999]
    try write(chosen.map { "imagenet-r/\(TestIDs.all[$0])/art_0.jpg" })
    try folder.write("imagenet-r/README.txt", "as the public archive has one".utf8)
    let unlisted = refusal("imagenet-r")
    #expect(unlisted.contains("has 4 folders named by WordNet ids, not ImageNet's 1000"), "\(unlisted)")
    #expect(unlisted.contains("--wnids") && unlisted.contains("--format folder"))
    let source = try open("imagenet-r", SourceChoice(wnids: try list()))
    #expect(try source.items().map(\.label) == chosen)
    #expect(source.labels == TestIDs.all)
    #expect(try open("imagenet-r", SourceChoice(format: .folder)).items().map(\.label) == [0, 1, 2, 3])
    try write(["imagenet-r/n99999999/x.jpg"])
    #expect(refusal("imagenet-r", SourceChoice(wnids: try list())).contains("n99999999 is none of the 1000"))
    try write(["imagenet-r/stray/x.jpg"])
    let stray = refusal("imagenet-r", SourceChoice(wnids: try list()))
    #expect(stray.contains("in a folder named by WordNet ids (n01440764, …), found \"stray\""), "\(stray)")
  }

  @Test func allOfImageNetNeedsNoList() throws {
    try write(TestIDs.all.map { "sketch/\($0)/sketch_1.JPEG" })
    for path in ["", "sketch"] {
      let source = try open(path)
      #expect(source.labels == TestIDs.all)
      #expect(try source.items().map(\.label) == Array(0..<1000))
    }
    let items = try open("").items()
    #expect(items[0].key == "sketch/\(TestIDs.all[0])/sketch_1")
  }

  @Test func flatValidationImages() throws {
    try write(["val/ILSVRC2012_val_00000001.JPEG", "val/ILSVRC2012_val_00000002.JPEG"])
    #expect(refusal("val").contains("without classes; import LOC_val_solution.csv"))
    let ids = TestIDs.all
    let csv = """
      ImageId,PredictionString
      ILSVRC2012_val_00000002,\(ids[500]) 85 1 499 272\u{20}
      ILSVRC2012_val_00000001,\(ids[2]) 1 2 3 4 \(ids[2]) 5 6 7 8
      ILSVRC2012_val_00000003,\(ids[2]) 1 2 3 4 \(ids[3]) 5 6 7 8
      ILSVRC2012_val_00000004,fish 1 2 3 4
      ILSVRC2012_val_00000005,\(ids[2]) 1 2 3
      ILSVRC2012_val_00000006
      ,\(ids[2]) 1 2 3 4
      ../x,\(ids[2]) 1 2 3 4
      ILSVRC2012_val_00000007,n99999999 1 2 3 4
      """
    try folder.write("LOC_val_solution.csv", csv.utf8)
    #expect(refusal("LOC_val_solution.csv").contains("names 3 classes, not all 1000; list them with --wnids"))
    let source = try open("LOC_val_solution.csv", SourceChoice(images: folder.path("val"), wnids: try list()))
    #expect(
      try source.outcome() == [
        "ILSVRC2012_val_00000002: 500", "ILSVRC2012_val_00000001: 2",
        "line 4: has boxes of several classes, [\"\(ids[2])\", \"\(ids[3])\"]",
        "line 5: expected boxes of a WordNet id and four numbers, found \"fish 1 2 3 4\"",
        "line 6: expected boxes of a WordNet id and four numbers, found \"\(ids[2]) 1 2 3\"",
        "line 7: expected an image and its boxes, two fields in UTF-8", "line 8: names no image",
        "line 9: its image \"../x.JPEG\" lies outside of the images' folder",
        "line 10: n99999999 is none of the 1000 classes",
      ])
    guard case .item(let item) = try source.all()[0] else { throw UserError("test", "left out") }
    #expect(item.path == folder.path("val/ILSVRC2012_val_00000002.JPEG"))
    // The images lie where Kaggle's archive has them.
    try write(["ILSVRC/Data/CLS-LOC/val/x.JPEG"])
    let lines = ids.enumerated().map { "ILSVRC2012_val_\($0.offset),\($0.element) 1 2 3 4" }
    try folder.write("LOC_val_solution.csv", (["ImageId,PredictionString"] + lines).joined(separator: "\n").utf8)
    let whole = try open("LOC_val_solution.csv").items()
    #expect(whole.map(\.label) == Array(0..<1000))
    #expect(whole[9].path == folder.path("ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_9.JPEG"))
  }

  // MARK: - Lists of the classes

  @Test func listsOfTheClasses() throws {
    let ids = TestIDs.all
    let mapping = ids.map { "\($0) tench, Tinca tinca" }.joined(separator: "\r\n") + "\n\n"
    let index = "{" + ids.enumerated().map { "\"\($0)\": [\"\($1)\", \"name\"]" }.joined(separator: ",\n") + "}"
    let mark = "\u{FEFF}"
    for text in [
      ids.joined(separator: "\n"), mark + mapping, mark + index, "\n \(index)", ids.reversed().joined(separator: "\n"),
      mapping, index,
    ] {
      #expect(try WordNetIDs.read(try folder.write("list", text.utf8)).names == ids)
    }
    var writer = try DatasetWriter(name: "in", folder: folder.path("in"), labeled: true, labels: ids)
    try writer.append(DatasetSample(image: [1], captions: [], key: "k", label: 3))
    _ = try writer.finish()
    #expect(try WordNetIDs.read(folder.path("in")).names == ids)
    #expect(try WordNetIDs.read(folder.path("in/corpus.json")).names == ids)
  }

  @Test func listsThatAreRefused() throws {
    let ids = TestIDs.all
    var swapped = ids
    swapped.swapAt(4, 9)
    let scrambled = "{" + swapped.enumerated().map { "\"\($0)\": [\"\($1)\", \"x\"]" }.joined(separator: ",") + "}"
    for (text, words) in [
      (ids.dropLast().joined(separator: "\n"), "holds 999 WordNet ids; ImageNet has 1000 classes"),
      ((ids.dropLast() + [ids[0]]).joined(separator: "\n"), "names a WordNet id twice"),
      ((ids + ["tench"]).joined(separator: "\n"), "\"tench\" is not a WordNet id"), ("", "holds 0 WordNet ids"),
      (scrambled, "gives \(ids[9]) the label 4, which is another class's in ImageNet's order"),
      ("{\"0\": \"\(ids[0])\"}", "there is no such entry for \"0\""), ("{\"0\": [1]}", "no such entry for \"0\""),
    ] {
      let path = try folder.write("list", text.utf8)
      let error = #expect(throws: UserError.self) { try WordNetIDs.read(path) }
      #expect(error?.description.contains(words) == true, "\(error?.description ?? "")")
    }
    #expect(throws: UserError.self) { try WordNetIDs.read(folder.path("nowhere")) }
    let latin = try folder.write("list", Array("n01440764 T".utf8) + [0xEA])
    let error = #expect(throws: FileError.self) { try WordNetIDs.read(latin) }
    #expect(error?.status == .badData && error?.reason.contains("byte 11 (line 1) is 0xea") == true)
    let pipe = try folder.pipe("pipe")
    #expect(throws: FileError.self) { try WordNetIDs.read(pipe) }
  }
}
