import Foundation
import TestSupport
import Testing

/// `scripts/image-tables`, which makes tables of images out of unpacked packages, and `scripts/near-duplicates`, which
/// takes images out of them.
@Suite struct ImageTablesTests {
  private static let scripts = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().appending(path: "scripts", directoryHint: .isDirectory)

  private static func run(_ script: String, _ arguments: [String]) async throws -> MPIRun {
    try await MPIRun.execute(["env", scripts.appending(path: script).path] + arguments)
  }

  private static func image(_ width: Int, _ height: Int, gray: UInt8 = 90) -> [UInt8] {
    PNGImage.encode(width: width, height: height, rgb: Array(repeating: gray, count: 3 * width * height))
  }

  /// Width and height of a PNG file stand big-endian behind the signature and the first chunk's name.
  private static func size(_ path: String) throws -> [UInt8] {
    Array(try Data(contentsOf: URL(filePath: path))[16..<24])
  }

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
    try folder.write("\(root)broken.png", "PNG".utf8)
    try folder.write("\(root)broken.txt", "A broken one.".utf8)
    try folder.write("\(root)town/wordless.txt", [])
    let run = try await Self.run("image-tables", ["stamps", folder.path("packages"), folder.path("")])
    #expect(run.status == 0, "\(run)")
    #expect(run.output.contains("2 images, 1 distinct titles; 2 left out"), "\(run)")
    #expect(run.errors.contains("broken.png: cannot identify image file"), "\(run)")
    let table = try String(contentsOfFile: folder.path("stamps.tsv"), encoding: .utf8)
    let expected = """
      filepath\ttitle\tkeywords\tkey
      images/animals/fox.png\tA fox.\t\tanimals/fox
      images/animals/fox_mirror.png\tA fox.\t\tanimals/fox_mirror

      """
    #expect(table == expected)
    #expect(try Self.size(folder.path("images/animals/fox.png")) == [0, 0, 0, 128, 0, 0, 0, 64])
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

  @Test func iconsHaveTheNamesOfLinksAndSymbolicOnesAreLeftOut() async throws {
    let folder = try TemporaryFolder()
    let theme = "packages/icons/Tiny/"
    let index = """
      # The sections may have sizes with units and no type.
      [Icon Theme]
      Directories=16/actions,64/actions,scalable/actions,64/apps,64/animations,symbolic/actions,64/apps@2x
      [16/actions]
      Size=16px
      [64/actions]
      Size=64
      Type=Fixed
      [scalable/actions]
      Size=48
      Type=Scalable
      MinSize=8
      MaxSize=512
      [64/apps]
      Size=64
      """
    try folder.write("\(theme)index.theme", index.utf8)
    let images: [(String, Int, UInt8)] = [
      ("16/actions/document-open", 16, 10), ("64/actions/document-open", 64, 20), ("64/actions/go-up-symbolic", 64, 30),
      ("64/actions/go-next-rtl", 64, 40), ("64/animations/spinner", 64, 50), ("symbolic/actions/go-up", 64, 60),
      ("64/apps@2x/clock", 128, 70), ("64/unlisted/apps/clock", 64, 80), ("64/apps/text-editor", 64, 90),
      ("64/apps/gedit", 64, 90), ("64/apps/24", 64, 100), ("../../installed", 64, 110),
    ]
    for (name, side, gray) in images { try folder.write("\(theme)\(name).png", Self.image(side, side, gray: gray)) }
    for (name, color) in [("edit-cut", "red"), ("pale", "white")] {
      let drawing = """
        <svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 9 9'><path d='M1 1h7v7z' fill='\(color)'/></svg>
        """
      try folder.write("\(theme)scalable/actions/\(name).svg", drawing.utf8)
    }
    try folder.write("\(theme)scalable/actions/broken.svg", "<svg".utf8)
    for (name, target) in [
      ("64/actions/fileopen", "document-open"), ("16/actions/gtk-open", "document-open"),
      ("64/actions/lost", "nothing"), ("64/apps/outside", folder.path("packages/installed")),
    ] {
      try FileManager.default.createSymbolicLink(
        atPath: folder.path("\(theme)\(name).png"), withDestinationPath: "\(target).png")
    }
    try folder.write("tables/other.tsv", [])
    let run = try await Self.run("image-tables", ["icons", folder.path(theme), folder.path("tables")])
    #expect(run.status == 0, "\(run)")
    #expect(run.output.contains("3 images, 3 distinct titles; 2 left out"), "\(run)")
    let expected = """
      filepath\ttitle\tkeywords\tkey\tlabel
      Tiny/actions/document-open.png\tdocument open\tdocument open, fileopen, open, actions\t\
      Tiny/actions/document-open\t0
      Tiny/actions/edit-cut.png\tedit cut\tedit cut, actions\tTiny/actions/edit-cut\t0
      Tiny/applications/gedit.png\tgedit\tgedit, text editor, applications\tTiny/applications/gedit\t1

      """
    #expect(try String(contentsOfFile: folder.path("tables/Tiny.tsv"), encoding: .utf8) == expected)
    #expect(try String(contentsOfFile: folder.path("tables/classes.txt"), encoding: .utf8).hasPrefix("actions\napplic"))
    for name in ["document-open", "edit-cut"] {
      #expect(try Self.size(folder.path("tables/Tiny/actions/\(name).png")) == [0, 0, 0, 64, 0, 0, 0, 64])
    }
  }

  /// `.` as the theme is the folder in which the script runs, and its copies must not take the place of FOLDER or of
  /// the theme itself.
  @Test func iconsOfTheWorkingFolderBearItsName() async throws {
    let folder = try TemporaryFolder()
    // A key without a value, another, and a size that no integer holds.
    let index = "[Icon Theme]\nDirectories=64/apps,64/places\n[64/apps]\nType\nSize=64\n[64/places]\nSize="
    try folder.write("Tiny/index.theme", "\(index)\(String(repeating: "9", count: 5000))\n".utf8)
    try folder.write("Tiny/64/apps/clock.png", Self.image(64, 64))
    try folder.write("tables/other.tsv", [])
    func run(_ target: String) async throws -> MPIRun {
      let script = Self.scripts.appending(path: "image-tables").path
      return try await MPIRun.execute(
        ["env", "-C", folder.path("Tiny"), script, "icons", ".", folder.path(target)])
    }
    let made = try await run("tables")
    #expect(made.status == 0, "\(made)")
    let tables = try FileManager.default.contentsOfDirectory(atPath: folder.path("tables"))
    #expect(Set(tables) == ["other.tsv", "Tiny", "Tiny.tsv", "classes.txt"])
    let inPlace = try await run("")
    #expect(inPlace.status == 1 && inPlace.errors.contains("would take the place of"), "\(inPlace)")
    #expect(FileManager.default.fileExists(atPath: folder.path("Tiny/index.theme")))
    try folder.write("Tiny/index.theme", "[Icon Theme]\n= 64/apps\n".utf8)
    let broken = try await run("tables")
    #expect(broken.status == 1 && broken.errors.contains("index.theme is not an icon theme's description"), "\(broken)")
  }

  @Test(arguments: [
    ("filepath\ttitle\nbroken.png\tx\n", 65, "broken.png: cannot identify image file"),
    ("filepath\ttitle\na.png\n", 65, "training.tsv, line 2: expected 2 columns, found 1"),
    ("title\nx\n", 65, "training.tsv, line 1: expected different columns with filepath among them"),
    ("filepath\n", 65, "training.tsv: no images"), ("filepath\na\u{0}\n", 65, "null"),
  ])
  func hostileTablesAreRefused(_ table: String, _ status: Int, _ words: String) async throws {
    let folder = try TemporaryFolder()
    try folder.write("broken.png", "PNG".utf8)
    let training = try folder.write("training.tsv", table.utf8)
    let run = try await Self.run(
      "near-duplicates", [folder.path("kept.tsv"), training, "--evaluated", training])
    #expect(Int(run.status) == status && run.errors.contains(words), "\(run)")
    #expect(!run.errors.contains("Traceback") && !FileManager.default.fileExists(atPath: folder.path("kept.tsv")))
  }

  @Test func nearDuplicatesOfEvaluatedImagesAreTakenOut() async throws {
    let folder = try TemporaryFolder()
    // Three quarters of a square are dark.
    func corner(_ side: Int, dark: UInt8, mirrored: Bool = false) -> [UInt8] {
      let pixels = (0..<side * side).flatMap { pixel -> [UInt8] in
        let half = (pixel % side * 2 / side, pixel / side * 2 / side)
        return Array(repeating: half == (mirrored ? (0, 0) : (1, 1)) ? 255 : dark, count: 3)
      }
      return PNGImage.encode(width: side, height: side, rgb: pixels)
    }
    try folder.write("evaluated/a.png", corner(64, dark: 0))
    try folder.write("evaluated/table.tsv", "filepath\ttitle\na.png\ta corner\n".utf8)
    try folder.write("training/near.png", corner(32, dark: 10))
    try folder.write("training/color.png", corner(64, dark: 90))
    try folder.write("training/form.png", corner(64, dark: 0, mirrored: true))
    let rows = ["near", "color", "form"].map { "\($0).png\ta \"\($0)\n" }.joined()
    try folder.write("training/table.tsv", "filepath\ttitle\n\(rows)".utf8)
    let run = try await Self.run(
      "near-duplicates",
      [folder.path("kept.tsv"), folder.path("training/table.tsv"), "--evaluated", folder.path("evaluated/table.tsv")])
    #expect(run.status == 0, "\(run)")
    #expect(run.output == "kept.tsv: 2 of 3 images; 1 near-duplicates of evaluated ones taken out\n", "\(run)")
    let expected = "filepath\ttitle\ntraining/color.png\ta \"color\ntraining/form.png\ta \"form\n"
    #expect(try String(contentsOfFile: folder.path("kept.tsv"), encoding: .utf8) == expected)
  }

  @Test(arguments: ["stamps", "icons"]) func anotherPackageIsRefused(_ kind: String) async throws {
    let folder = try TemporaryFolder()
    try folder.write("tables/other.tsv", [])
    let run = try await Self.run("image-tables", [kind, folder.path("packages"), folder.path("tables")])
    #expect(run.status == 1, "\(run)")
    #expect(run.errors.contains("no images in"), "\(run)")
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path("tables")) == ["other.tsv"])
  }
}
