import Foundation
import TestSupport
import Testing

@testable import Launch

/// The folders that img2dataset writes, in both of its forms.
@Suite struct Img2DatasetTests {
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  func open(_ name: String, _ choice: SourceChoice = SourceChoice()) throws -> any ImportSource {
    try choice.open([folder.path(name)], dataset: "c")
  }

  func refusal(_ name: String, _ choice: SourceChoice = SourceChoice()) -> String {
    #expect(throws: (any Error).self) { try open(name, choice) }.map { "\($0)" } ?? ""
  }

  /// Returns the file that img2dataset writes beside an image.
  func json(_ key: String, _ caption: String, status: String = "success") -> [UInt8] {
    Array(
      """
      {
          "caption": "\(caption.replacing("\n", with: "\\n"))",
          "url": "http://example.org/\(key).jpg",
          "key": "\(key)",
          "status": "\(status)",
          "error_message": null,
          "width": 4,
          "height": 4,
          "original_width": 640,
          "original_height": 480,
          "exif": "{}",
          "sha256": "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
      }
      """.utf8)
  }

  func stats(_ count: Int, _ successes: Int) -> [UInt8] {
    Array(
      """
      {"count": \(count), "successes": \(successes), "failed_to_download": 1, "failed_to_resize": 0, "duration": 1.5,
       "status_dict": {"success": \(successes), "HTTP Error 404: Not Found": 1}}
      """.utf8)
  }

  /// Writes two shards of two samples each, one of which has a caption of two lines.
  func shards(_ name: String) throws {
    for shard in 0..<2 {
      var tar: [UInt8] = []
      for index in 0..<2 {
        let key = "0000\(shard)000\(index)"
        let caption = index == 0 ? "one \(shard)" : "two\nlines"
        tar += TarBytes.member(key + ".jpg", TestImage.png()) + TarBytes.member(key + ".json", json(key, caption))
        tar += TarBytes.member(key + ".txt", caption.utf8)
      }
      try folder.write("\(name)/0000\(shard).tar", tar + TarBytes.end)
      try folder.write("\(name)/0000\(shard).parquet", [1])
      try folder.write("\(name)/0000\(shard)_stats.json", stats(3, 2))
    }
  }

  @Test func tars() throws {
    try shards("cc")
    let expected = ["000000000: one 0", "000000001: two\nlines", "000010000: one 1", "000010001: two\nlines"]
    #expect(try open("cc").outcome() == expected)
    #expect(try open("cc", SourceChoice(format: .img2dataset)).outcome() == expected)
    #expect(
      try open("cc", SourceChoice(captionKeys: ["url"])).outcome()[0] == "000000000: http://example.org/000000000.jpg")
  }

  @Test func shardsThatAreNotWhole() throws {
    try shards("cc")
    try folder.write("cc/00001_stats.json", stats(3, 3))
    #expect(refusal("cc").contains("00001.tar: has 2 samples, and img2dataset counted 3 in the file beside it"))
    try folder.write("cc/00001_stats.json", "{}".utf8)
    #expect(refusal("cc").contains("00001_stats.json: is not a file of img2dataset: it has no \"successes\""))
    try FileManager.default.removeItem(atPath: folder.path("cc/00001_stats.json"))
    #expect(refusal("cc").contains("has 00001.tar but no 00001_stats.json: img2dataset has not finished it"))
    #expect(try open("cc", SourceChoice(format: .webdataset)).count == 4)
    try FileManager.default.removeItem(atPath: folder.path("cc/00000.tar"))
    #expect(refusal("cc").contains("has 00001.tar but no 00001_stats.json"))
    try FileManager.default.removeItem(atPath: folder.path("cc/00001.tar"))
    #expect(refusal("cc").contains("holds no img2dataset shards"))
    try folder.write("plain/a.png", TestImage.png())
    #expect(refusal("plain", SourceChoice(format: .img2dataset)).contains("holds no img2dataset shards"))
  }

  @Test func folders() throws {
    for (key, caption, status) in [
      ("000000000", "one", "success"), ("000000001", "two\nlines", "success"), ("000000002", "x", "failed_to_download"),
    ] {
      try folder.write("f/00000/\(key).jpg", TestImage.png())
      try folder.write("f/00000/\(key).txt", caption.utf8)
      try folder.write("f/00000/\(key).json", json(key, caption, status: status))
    }
    try folder.write("f/00001/000010000.jpg", TestImage.png())
    try folder.write("f/00001/000010000.json", json("000010000", "from the JSON"))
    for shard in ["00000", "00001"] { try folder.write("f/\(shard)_stats.json", stats(3, 3)) }
    let source = try open("f")
    #expect(!source.labeled)
    #expect(
      try source.outcome() == [
        "00000/000000000: one", "00000/000000001: two\nlines",
        "00000/000000002.jpg: img2dataset says “failed_to_download”", "00001/000010000: from the JSON",
      ])
    #expect(
      refusal("f", SourceChoice(keysByTar: true)).contains("has folders and no tars; leave --keys-by-tar out"))
    try FileManager.default.removeItem(atPath: folder.path("f/00001_stats.json"))
    #expect(refusal("f").contains("has 00001 but no 00001_stats.json"))
  }

  /// JSON beside the images of any folder is read if keys are named.
  @Test func keysInAPlainFolder() throws {
    try folder.write("p/a.png", TestImage.png())
    try folder.write("p/a.json", #"{"blip": ["red", "square"], "status": "approved"}"#.utf8)
    try folder.write("p/b.png", TestImage.png())
    #expect(
      try open("p", SourceChoice(captionKeys: ["blip"])).outcome() == [
        "a: red | square", "b.png: has no .json whose “blip” could be its caption",
      ])
  }

  @Test func importedByTheProgram() async throws {
    try shards("cc")
    let run = try await MPIRun.kinship(
      ["dataset", "import", folder.path("cc"), "--output", folder.path("out")], ranks: nil)
    #expect(run.status == 0 && run.output.contains("out: 4 images, 4 captions in 1 shard"), "\(run)")
  }
}
