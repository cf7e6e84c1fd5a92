import Foundation
import TestSupport
import Testing

@testable import Launch

/// COCO, Karpathy's splits and Flickr30k, in their public layouts.
@Suite struct CaptionListTests {
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  func open(_ name: String, _ text: String, _ choice: SourceChoice = SourceChoice()) throws -> any ImportSource {
    try choice.open(try folder.write(name, text.utf8), dataset: "c")
  }

  func refusal(_ name: String, _ text: String, _ choice: SourceChoice = SourceChoice()) -> String {
    #expect(throws: UserError.self) { try open(name, text, choice) }?.description ?? ""
  }

  // MARK: - COCO

  /// A list like the public files: captions of different images alternate, and are not ordered by their ids.
  static let coco = """
    {"info": {"year": 2017}, "licenses": [{"id": 3, "url": "u", "name": "n"}],
     "images": [
      {"license": 3, "file_name": "000000397133.jpg", "coco_url": "u", "height": 427, "width": 640, "id": 397133},
      {"license": 3, "file_name": "000000037777.jpg", "coco_url": "u", "height": 230, "width": 352, "id": 37777.0},
      {"license": 3, "file_name": "000000252219.jpg", "coco_url": "u", "height": 428, "width": 640, "id": 252219}],
     "annotations": [
      {"image_id": 252219, "id": 38, "caption": "A person with a \\"sign\\".\\n"},
      {"image_id": 397133, "id": 900, "caption": "A man in a kitchen."},
      {"image_id": 37777, "id": 12, "caption": "The dining table"},
      {"image_id": 397133, "id": 4, "caption": "A caf\\u00e9 \\ud83c\\udf5e"},
      {"image_id": 252219, "id": 39, "caption": "People."},
      {"image_id": 397133, "id": 901, "caption": "  "}]}
    """

  @Test func coco() throws {
    try folder.write("val2017/x.jpg", [1])
    let source = try open("annotations/captions_val2017.json", Self.coco)
    #expect(
      try source.outcome() == [
        "000000397133: A man in a kitchen. | A café 🍞", "000000037777: The dining table",
        "000000252219: A person with a \"sign\". | People.",
      ])
    #expect(!source.labeled)
    let path = folder.path("annotations/captions_val2017.json")
    let items = try source.items()
    #expect(items[0].path == folder.path("annotations") + "/../val2017/000000397133.jpg")
    #expect(items.map(\.place) == ["images[0]", "images[1]", "images[2]"])
    let elsewhere = try SourceChoice(format: .coco, images: "/images").open(path, dataset: "c").items()
    #expect(elsewhere[1].path == "/images/000000037777.jpg")
    // Without the public folder beside the list, the images lie beside the list.
    #expect(try open("mine.json", Self.coco).items()[2].path == folder.path("000000252219.jpg"))
  }

  @Test func cocoLeavesOutWhatItCannotUse() throws {
    let source = try open(
      "c.json",
      """
      {"images": [
        {"id": 1, "file_name": "a.jpg"}, {"id": 2}, {"id": "3", "file_name": "c.jpg"}, 4, {"id": 5, "file_name": 5},
        {"id": 6, "file_name": "../../etc/f.jpg"}, {"id": 7, "file_name": "/abs/g.jpg"}, {"id": 8, "file_name": ""},
        {"id": 9, "file_name": "i\\u0000.jpg"}, {"id": 10, "file_name": "j.jpg"}, {"file_name": "k.jpg"}],
       "annotations": [
        {"image_id": 1, "caption": "one"}, {"image_id": 2, "caption": "of an image that is left out"},
        {"image_id": 77, "caption": "x"}, {"caption": "x"}, {"image_id": 1.5, "caption": "x"}, null,
        {"image_id": 1, "caption": ["x"]}, {"image_id": 1}, {"image_id": 1, "caption": "a\\u0000b"},
        {"image_id": true, "caption": "x"}, {"image_id": 1, "caption": "two"}]}
      """)
    #expect(
      try source.outcome() == [
        "a: one | two",
        "images[9]: has no caption",
        "images[1]: has no \"file_name\"",
        "images[2]: \"id\": expected a whole number, found a string",
        "images[3]: expected an object, found a number",
        "images[4]: \"file_name\": expected a string, found a number",
        "images[5]: its image \"../../etc/f.jpg\" lies outside of the images' folder",
        "images[6]: its image \"/abs/g.jpg\" lies outside of the images' folder",
        "images[7]: names no image",
        "images[8]: its image's name holds a zero byte",
        "images[10]: has no \"id\"",
        "annotations[2]: belongs to the image 77, which the file does not list",
        "annotations[3]: has no \"image_id\"",
        "annotations[4]: \"image_id\": expected a whole number, found a number",
        "annotations[5]: expected an object, found null",
        "annotations[6]: \"caption\": expected a string, found an array",
        "annotations[7]: has no \"caption\"",
        "annotations[8]: its caption holds a zero byte",
        "annotations[9]: \"image_id\": expected a whole number, found a boolean",
      ])
  }

  @Test(
    arguments: [
      ("{\"images\": [], \"annotations\": []", "is not valid JSON: byte 32: the text ends too early"),
      ("{\"images\": 3, \"annotations\": []}", "captions: \"images\": expected an array, found a number"),
      ("{\"annotations\": []}", "captions: has no \"images\""),
      (
        "{\"images\": [], \"annotations\": [{\"image_id\": 1, \"bbox\": [0]}]}",
        "has no caption in its 1 annotation; give a captions_….json"
      ),
      (
        """
        {"images": [{"id": 1, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}], "annotations": [{"caption": ""}]}
        """, "images[0] and images[1] have the same id 1"
      ),
      (
        """
        {"images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "a.png"}], "annotations": [{"caption": ""}]}
        """, "images[0] and images[1] have the same key \"a\"; every image comes once"
      ),
      ("{\"images\": [{\"id\": 1}], \"type\": 1}", "neither COCO's captions"),
      ("{\"a\": 1, \"a\": 2}", "the key \"a\" appears twice"),
      ("[]", "expected an object at the top, found an array"),
      ("{}", "its keys are none"),
      ("", "is not valid JSON"),
      (LongText(String(repeating: "[", count: 100_000)), "nested deeper than"),
    ] as [(LongText, String)])
  func jsonThatIsRefused(_ text: LongText, _ words: String) {
    let found = refusal("c.json", text.string)
    #expect(found.contains(words), "\(found)")
  }

  // MARK: - Karpathy

  static let karpathy = """
    {"images": [
      {"filepath": "val2014", "sentids": [1, 2], "filename": "COCO_val2014_000000391895.jpg", "imgid": 0,
       "split": "test", "sentences": [
         {"tokens": ["a", "man"], "raw": "A man with a red helmet.", "imgid": 0, "sentid": 1},
         {"tokens": ["man"], "raw": "Man riding. ", "imgid": 0, "sentid": 2}], "cocoid": 391895},
      {"filepath": "train2014", "filename": "COCO_train2014_000000000009.jpg", "imgid": 1, "split": "train",
       "sentences": [{"raw": "t"}]},
      {"filepath": "val2014", "filename": "b.jpg", "imgid": 2, "split": "restval", "sentences": [{"raw": "r"}]},
      {"filepath": "val2014", "filename": "c.jpg", "imgid": 3, "split": "test", "sentences": [{"raw": "second"}]}],
     "dataset": "coco"}
    """

  @Test func karpathy() throws {
    let source = try open("dataset_coco.json", Self.karpathy, SourceChoice(splits: ["test"]))
    #expect(
      try source.outcome() == [
        "val2014/COCO_val2014_000000391895: A man with a red helmet. | Man riding.", "val2014/c: second",
      ])
    #expect(try source.items()[1].path == folder.path("val2014/c.jpg"))
    let train = try open("dataset_coco.json", Self.karpathy, SourceChoice(splits: ["train", "restval"]))
    #expect(try train.items().map(\.captions) == [["t"], ["r"]])
    let refused = refusal("d.json", Self.karpathy, SourceChoice(splits: ["test", "dev"]))
    #expect(refused.contains("has no split \"dev\"; it has restval (1), test (2), train (1)"), "\(refused)")
    let unasked = refusal("d.json", Self.karpathy)
    #expect(unasked.contains("has the splits restval (1), test (2), train (1); name what to import with --split"))
  }

  @Test func karpathyOfFlickr() throws {
    try folder.write("flickr30k_images/1.jpg", [1])
    let text = """
      {"images": [
        {"sentids": [0], "imgid": 0, "sentences": [{"tokens": [], "raw": "Two men.", "imgid": 0, "sentid": 0},
         {"raw": 5}, "x"], "split": "test", "filename": "1.jpg"},
        {"split": "test", "filename": "2.jpg"}, {"filename": "3.jpg", "sentences": []},
        {"split": "test", "filename": "4.jpg", "filepath": "..", "sentences": []}], "dataset": "flickr30k"}
      """
    let source = try open("dataset_flickr30k.json", text, SourceChoice(splits: ["test"]))
    #expect(
      try source.outcome() == [
        "1: Two men.",
        "images[0].sentences[1]: \"raw\": expected a string, found a number",
        "images[0].sentences[2]: expected an object, found a string",
        "images[1]: has no \"sentences\"",
        "images[2]: has no \"split\"",
        "images[3]: its image \"../4.jpg\" lies outside of the images' folder",
      ])
    guard case .item(let item) = try source.all()[0] else { throw UserError("test", "left out") }
    #expect(item.path == folder.path("flickr30k_images/1.jpg"))
  }

  // MARK: - Flickr30k

  @Test func flickrTokens() throws {
    let source = try open(
      "results_20130124.token",
      """
      1000092795.jpg#0\tTwo "young guys" with hair .
      10002456.jpg#1\tsecond .
      1000092795.jpg#1\tTwo , White males
      10002456.jpg#0\tfirst .
      10002456.jpg#0\tagain
      no number\tx
      10002456.jpg#x\ty
      #2\tz
      one field
      10002456.jpg#3\ta\tb
      """)
    #expect(
      try source.outcome() == [
        "1000092795: Two \"young guys\" with hair . | Two , White males", "10002456: first . | second .",
        "line 5: has caption 0 of \"10002456.jpg\" again, after line 4",
        "line 6: expected name#number before the tab, found \"no number\"",
        "line 7: expected name#number before the tab, found \"10002456.jpg#x\"",
        "line 9: has 1 field, expected 2", "line 10: has 3 fields, expected 2", "line 8: names no image",
      ])
  }

  /// Kaggle's list, with its line that lacks a bar.
  @Test func flickrTable() throws {
    let source = try open(
      "results.csv",
      """
      image_name| comment_number| comment
      1000092795.jpg| 0| Two young guys, "friends" .
      1000092795.jpg| 1| Two males .
      2199200615.jpg| 4   A dog runs across the grass .
      2199200615.jpg| 3| A dog .
      2199200615.jpg| x| A dog .
      """)
    #expect(
      try source.outcome() == [
        "1000092795: Two young guys, \"friends\" . | Two males .", "2199200615: A dog .",
        "line 4: has 2 fields, expected 3", "line 6: expected a caption's number, found \"x\"",
      ])
  }

  // MARK: - Conceptual Captions

  @Test func conceptualCaptions() throws {
    let refused = refusal(
      "Validation_GCC-1.1.0-Validation.tsv",
      "author : a life in photography -- in images\thttps://i.pinimg.com/736x/66.jpg\n")
    #expect(refused.contains("a list of captions and URLs"), "\(refused)")
    #expect(refused.contains("img2dataset") && refused.contains("filepath and title"))
    // CLIP-KD's own list: tabs in a .csv, the title first.
    let list = try open("cc3m_val.csv", "title\tfilepath\n\"a \"\"quoted\"\" one\"\tval/0/12.jpg\nb\tval/0/13.jpg\n")
    #expect(try list.outcome() == ["val/0/12: a \"quoted\" one", "val/0/13: b"])
    // img2dataset with output_format files writes folders of digits that are not classes.
    for number in ["000000000", "000000012"] {
      try folder.write("cc3m/00000/\(number).jpg", [1])
      try folder.write("cc3m/00000/\(number).txt", "caption \(number)".utf8)
      try folder.write("cc3m/00000/\(number).json", "{}".utf8)
    }
    let fetched = try SourceChoice().open(folder.path("cc3m"), dataset: "c")
    #expect(!fetched.labeled)
    #expect(
      try fetched.outcome() == ["00000/000000000: caption 000000000", "00000/000000012: caption 000000012"])
  }

  @Test func optionsThatDoNotBelong() throws {
    let table = "filepath\ttitle\na\tb\n"
    for (choice, words) in [
      (SourceChoice(images: "x"), "--images does not apply to the format table"),
      (SourceChoice(splits: ["test"]), "--split does not apply to the format table"),
      (SourceChoice(wnids: "x"), "--wnids does not apply to the format table"),
      (SourceChoice(format: .folder), "--format folder expects a folder; this is a file"),
    ] {
      #expect(refusal("t.tsv", table, choice).contains(words), "\(refusal("t.tsv", table, choice))")
    }
    #expect(refusal("c.json", Self.coco, SourceChoice(splits: ["test"])).contains("to the format coco"))
    #expect(refusal("c.json", Self.coco, SourceChoice(format: .karpathy, splits: ["val"])).contains("no split \"val\""))
    let folderForm = #expect(throws: UserError.self) {
      try SourceChoice(format: .coco).open(folder.path(""), dataset: "c")
    }
    #expect(folderForm?.reason == "--format coco expects a file; this is a folder")
  }
}
