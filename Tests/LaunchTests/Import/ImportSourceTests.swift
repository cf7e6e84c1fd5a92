import Dist
import Foundation
import TestSupport
import Testing

@testable import Launch

@Suite struct ImportSourceTests {
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  func table(
    _ text: String, _ columns: TableColumns = TableColumns(), name: String = "t.tsv", separator: UInt8? = nil
  ) throws -> TableSource {
    let path = try folder.write(name, Array(text.utf8))
    return try TableSource(path, dataset: "c", columns: columns, separator: separator)
  }

  @Test func aTableAsOpenClipHasIt() throws {
    let source = try table("filepath\ttitle\n./a/x.1.png\t a cat \n/abs/y.jpg\tdog\nz\tem\u{FE0F}u\n")
    let items = try source.items()
    #expect(items.map(\.key) == ["a/x.1", "/abs/y", "z"])
    #expect(items.map(\.path) == [folder.path("./a/x.1.png"), "/abs/y.jpg", folder.path("z")])
    #expect(items.map(\.captions) == [["a cat"], ["dog"], ["em\u{FE0F}u"]])
    #expect(items.map(\.place) == ["line 2", "line 3", "line 4"])
    #expect(!source.labeled)
  }

  @Test func columnsByName() throws {
    let columns = TableColumns(image: "file", captions: ["alt", "text"], label: "class", key: "id")
    let source = try table(
      "text,id,class,file,alt\none,u263a\u{FE0F},7,a.png,\ntwo,k2,,b.png,zwei\n,k3,-1,c.png,drei\n", columns,
      name: "t.csv")
    let items = try source.items()
    #expect(items.map(\.key) == ["u263a", "k2", "k3"])
    #expect(items.map(\.captions) == [["one"], ["zwei", "two"], ["drei"]])
    #expect(items.map(\.label) == [7, nil, nil])
    #expect(source.labels == [])
  }

  @Test func namesOfLabelsAreNumberedInOrder() throws {
    let source = try table(
      "filepath,label\na.png,dog\nb.png,7th\nc.png,cat\n", TableColumns(label: "label"), name: "t.csv")
    #expect(source.labels == ["7th", "cat", "dog"])
    #expect(try source.items().map(\.label) == [2, 0, 1])
  }

  func labels(_ column: String...) throws -> TableSource {
    let lines = column.enumerated().map { "\($0).png,\($1)\n" }.joined()
    return try table("filepath,label\n" + lines, TableColumns(label: "label"), name: "t.csv")
  }

  @Test func wholeNumbersAreNumbersHoweverTheyAreWritten() throws {
    let source = try labels("0", "1.0", "2.", "10", "4.00", "007", "+3", " 5 ")
    #expect(source.labels == [])
    #expect(try source.items().map(\.label) == [0, 1, 2, 10, 4, 7, 3, 5])
    // As pandas writes a column with an empty field.
    #expect(try labels("0.0", "1.0", "12.0").items().map(\.label) == [0, 1, 12])
    let gaps = try table(
      "filepath,title,label\na,x,\nb,y,-1.0\nc,z,2.0\n", TableColumns(label: "label"), name: "t.csv")
    #expect(try gaps.items().map(\.label) == [nil, nil, 2])
    // As numpy.savetxt writes them.
    #expect(try labels("0.000e+00", "1.200e+01", "2E0").items().map(\.label) == [0, 12, 2])
    // Names may look like numbers as long as none of them is a whole one.
    #expect(try labels("1.5", "0.5", "5e-1", "e").labels == ["0.5", "1.5", "5e-1", "e"])
  }

  @Test(arguments: [
    (["0", "", "cat", "dog"], "line 2 has the label 0, and line 4 has \"cat\", which is not a whole number"),
    (["cat", "3.0"], "line 3 has the label 3, and line 2 has \"cat\", which is not a whole number"),
    (["0", "1", "1.5"], "line 2 has the label 0, and line 4 has \"1.5\", which is not a whole number"),
    (["0", "nan"], "line 2 has the label 0, and line 3 has \"nan\", which is not a whole number"),
    (["0", "3000000000"], "line 3 has the label 3000000000; a label is at most 2147483647"),
    (["99999999999999999999"], "line 2 has the label 99999999999999999999; a label is at most 2147483647"),
  ])
  func columnsOfNumbersAndNamesAreRefused(_ column: [String], _ words: String) throws {
    let lines = column.enumerated().map { "\($0).png,\($1)\n" }.joined()
    let error = #expect(throws: UserError.self) {
      try table("filepath,label\n" + lines, TableColumns(label: "label"), name: "t.csv")
    }
    #expect(error?.reason.hasPrefix(words) == true, "\(error?.reason ?? "")")
    #expect(error?.status == .badData)
  }

  @Test func furtherLinesOfAnImageAreItsCaptions() throws {
    let source = try table(
      """
      filepath,title,label
      a.png,one,
      b.png,eins,4
      a.png,two,3
      c.png,,
      b.png,zwei,4.0
      a.png,three,3
      c.png,only,1
      c.png,without,-1
      """, TableColumns(label: "label"), name: "t.csv")
    let items = try source.items()
    #expect(items.map(\.key) == ["a", "b", "c"])
    #expect(items.map(\.captions) == [["one", "two", "three"], ["eins", "zwei"], ["only", "without"]])
    #expect(items.map(\.label) == [3, 4, 1])
    #expect(items.map(\.place) == ["line 2", "line 3", "line 5"])
  }

  @Test(arguments: [
    ("a.png,x,1\nb.png,x,1\na.png,y,2", "lines 2 and 4 give the same image the labels \"1\" and \"2\""),
    ("a.png,x,\na.png,x,1\na.png,y,2", "lines 3 and 4 give the same image the labels \"1\" and \"2\""),
  ])
  func anImageHasOneLabel(_ lines: String, _ words: String) throws {
    let error = #expect(throws: UserError.self) {
      try table("filepath,title,label\n" + lines, TableColumns(label: "label"), name: "t.csv").all()
    }
    #expect(error?.reason.hasPrefix(words) == true, "\(error?.reason ?? "")")
  }

  @Test(arguments: [
    ([0x1F, 0x8B, 8, 8] as [UInt8], "is compressed by gzip; unpack it with gunzip"),
    (Array("PK\u{3}\u{4}".utf8), "is a zip archive; unpack it with unzip"),
    (Array("PAR1\u{15}\u{4}".utf8), "is a Parquet table; write it as CSV"),
    ([0x37, 0x7A, 0xBC, 0xAF, 0x27, 0x1C], "is a 7z archive; unpack it with 7z x"),
    (Array("f\0i\0l\0e\0".utf8), "its header holds a zero byte; expected a table with the column \"filepath\""),
    ([0xFF, 0xFE, 0x66, 0], "is text in UTF-16; save it as UTF-8"),
    ([0x66, 0xEA, 0x2C], "its header is not UTF-8; expected a table with the column \"filepath\""),
  ])
  func filesThatAreNoTables(_ bytes: [UInt8], _ words: String) throws {
    let path = try folder.write("t.csv", bytes)
    for format in [nil, ImportFormat.table] {
      let error = #expect(throws: UserError.self) { try SourceChoice(format: format).open([path], dataset: "c") }
      #expect(error?.reason.hasPrefix(words) == true && error?.status == .badData, "\(error?.reason ?? "")")
    }
  }

  @Test(arguments: [
    ("a.csv", "filepath,title\n", UInt8(ascii: ",")), ("a.tsv", "filepath\ttitle\n", UInt8(ascii: "\t")),
    ("a.txt", "filepath\ttitle\n", UInt8(ascii: "\t")), ("a.csv", "filepath\ttitle\n", UInt8(ascii: "\t")),
    ("a.tsv", "filepath,title\n", UInt8(ascii: ",")), ("a.CSV", "title;filepath\n", UInt8(ascii: ";")),
    ("a.csv", "\"filepath\",\"title\"\n", UInt8(ascii: ",")),
    ("a.csv", "\u{FEFF}\"filepath\";\"title\"\n", UInt8(ascii: ";")),
  ])
  func separatorsAreGuessed(_ name: String, _ header: String, _ separator: UInt8) throws {
    let line = "x.png" + String(UnicodeScalar(separator)) + "y\n"
    #expect(try table(header + line, name: name).separator == separator)
  }

  @Test(arguments: [
    ("", TableColumns(), "the table is empty"),
    ("filepath\ttitle\n", TableColumns(), "has a header and nothing below it"),
    (
      "path\ttitle\nx\ty", TableColumns(),
      "no column \"filepath\"; it has \"path\", \"title\"; name the right one with --im"
    ),
    (
      "filepath\ttext\nx\ty", TableColumns(),
      "no column \"title\"; it has \"filepath\", \"text\"; name the right one with -"
    ),
    ("filepath\ttitle\ttitle\nx\ty\tz", TableColumns(), "has 2 columns \"title\""),
    ("filepath\ttitle\na.png\tx\nb.png\ty\n\na.jpg\tz\n", TableColumns(), "lines 2 and 5 have the same key \"a\""),
    (
      "filepath\ttitle\tk\na\tx\tu\nb\ty\tu\u{FE0F}\n", TableColumns(key: "k"),
      "lines 2 and 3 have the same key \"u\"; keys must be unique"
    ),
  ])
  func tablesThatAreRefused(_ text: String, _ columns: TableColumns, _ words: String) throws {
    let error = #expect(throws: UserError.self) { try table(text, columns) }
    #expect(error?.description.contains(words) == true, "\(error?.description ?? "")")
  }

  @Test func linesThatAreLeftOut() throws {
    var bytes = Array("filepath\ttitle\na\nb\tx\ty\n\tempty\nc\t \n".utf8)
    bytes += Array("d\t".utf8) + [0xFF, 0x0A] + Array("e\tz\0\n".utf8)
    let path = try folder.write("t.tsv", bytes)
    let source = try TableSource(path, dataset: "c", columns: TableColumns())
    let reasons = try source.all().map { entry in
      if case .rejected(let rejection) = entry { "\(rejection.place) \(rejection.reason)" } else { "taken" }
    }
    #expect(
      reasons == [
        "line 2 has 1 field, the header has 2", "line 3 has 3 fields, the header has 2", "line 4 names no image",
        "line 5 has neither a caption nor a label", "line 6 is not UTF-8", "line 7 holds a zero byte",
      ])
  }

  @Test func foldersOfClasses() throws {
    for name in ["b/1.png", "b/2.JPG", "a/x/3.webp", "a/notes.md", ".hidden/4.png", "c/.5.png"] {
      try folder.write(name, [1])
    }
    let source = try FolderSource(folder.path(""), dataset: "c")
    #expect(source.labels == ["a", "b"])
    let items = try source.items()
    #expect(items.map(\.key) == ["a/x/3", "b/1", "b/2"])
    #expect(items.map(\.label) == [0, 1, 1])
    #expect(items.map(\.captions) == [[], [], []])
  }

  @Test func foldersWithCaptionsBeside() throws {
    for name in ["s/1.png", "2.png", "3.png", "4.png"] { try folder.write(name, [1]) }
    try folder.write("s/1.txt", "eins\r\n\n  one  \n".utf8)
    try folder.write("2.txt", "\n \n".utf8)
    try folder.write("4.txt", [0xFF])
    let source = try FolderSource(folder.path(""), dataset: "c")
    #expect(!source.labeled)
    let entries = try source.all()
    #expect(entries[0] == .rejected(Rejection(place: "2.png", key: "2", reason: "has neither a caption nor a label")))
    #expect(entries[1] == .rejected(Rejection(place: "3.png", key: "3", reason: "has neither a caption nor a label")))
    #expect(
      entries[2]
        == .rejected(
          Rejection(
            place: "4.png", key: "4",
            reason: "its captions, 4.txt: it is not UTF-8: byte 0 (line 1) is 0xff; save it as UTF-8")))
    guard case .item(let item) = entries[3] else { throw UserError("test", "\(entries[3])") }
    #expect(item.captions == ["eins", "one"])
  }

  /// As in tars: extensions in upper case, and images in formats that are not read.
  @Test func extensionsInUpperCaseAndOtherFormats() throws {
    for name in ["B.JPG", "a.Png", "k.gif", "sub/c.TIFF", "d.svg.png"] { try folder.write(name, [1]) }
    try folder.write("B.TXT", "\u{FEFF}upper\n".utf8)
    try folder.write("a.Txt", "mixed".utf8)
    try folder.write("k.txt", "of a GIF".utf8)
    try folder.write("d.svg.txt", "drawn".utf8)
    #expect(
      try FolderSource(folder.path(""), dataset: "c").outcome() == [
        "B: upper", "a: mixed", "d.svg: drawn", "k.gif: its format is not read; convert it to JPEG, PNG or WebP",
        "sub/c.TIFF: its format is not read; convert it to JPEG, PNG or WebP",
      ])
    try folder.write("B.txt", "lower".utf8)
    let twice = #expect(throws: UserError.self) { try FolderSource(folder.path(""), dataset: "c") }
    #expect(twice?.reason == "B.TXT and B.txt describe the same image \"B\"; remove or rename one")
  }

  @Test func foldersThatAreRefused() throws {
    let empty = #expect(throws: UserError.self) { try FolderSource(folder.path(""), dataset: "c") }
    #expect(empty?.reason == "holds no image (jpeg, jpg, png, webp)")
    try folder.write("00000.parquet", [1])
    let other = #expect(throws: UserError.self) { try FolderSource(folder.path(""), dataset: "c") }
    #expect(other?.reason == "holds no image (jpeg, jpg, png, webp), but 1 other file, such as 00000.parquet")
    try folder.write("a.png", [1])
    try folder.write("a.jpg", [1])
    let twice = #expect(throws: UserError.self) { try FolderSource(folder.path(""), dataset: "c") }
    #expect(twice?.reason == "a.jpg and a.png have the same key \"a\"; rename one")
  }

  @Test func linksAreFollowedButNotInCircles() throws {
    try folder.write("in/a/1.png", [1])
    try folder.write("out/2.png", [1])
    let manager = FileManager.default
    try manager.createSymbolicLink(atPath: folder.path("in/b"), withDestinationPath: folder.path("out"))
    try manager.createSymbolicLink(atPath: folder.path("in/a/up"), withDestinationPath: folder.path("in"))
    try manager.createSymbolicLink(atPath: folder.path("in/a/gone"), withDestinationPath: folder.path("nowhere"))
    // What a link's name promises and its end does not give is told.
    try manager.createSymbolicLink(atPath: folder.path("in/a/lost.png"), withDestinationPath: folder.path("nowhere"))
    #expect(try FolderSource(folder.path("in"), dataset: "c").items().map(\.key) == ["a/1", "a/lost", "b/2"])
  }
}
