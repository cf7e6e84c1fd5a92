import CHDF5
import Foundation
import Tensor
import TestSupport
import Testing

@testable import Dist

/// Files of embeddings as other programs write them: what is read of good ones, and why others are refused.
@Suite struct EmbeddingSetTests {
  let folder = try! TemporaryFolder()
  let dataset: Dataset
  /// Three samples with four captions; the samples' order in the files is another.
  static let keys = ["c/d.jpg", "a", "é1"]
  static let images: [Float] = [3, 4, 0, 5, 1, 0, -6, 8, 0, 1, 2, 0]
  static let boxes: [Float] = [
    0, 0, 1, 1, 0.25, 0, 0.75, 0.5, 0, 0, 0.5, 1, 0.5, 0.5, 1, 1, 0, 0.125, 1, 1, 0, 0, 0.0625, 1,
  ]
  static let texts: [Float] = [0, 1, 0, 2, 0, 0, 0, 0, 4, 1, 2, 2]

  init() throws {
    var writer = try DatasetWriter(name: "three", folder: folder.path("three"))
    for (key, captions) in [("a", ["a one", "a two"]), ("é1", ["e"]), ("c/d.jpg", ["c"])] {
      try writer.append(DatasetSample(image: [1, 2, 3], captions: captions, key: key))
    }
    _ = try writer.finish()
    dataset = try Dataset.open(folder.path("three"))
  }

  /// The arrays of a good archive: two views of each image, and captions of which the first two are those of "a".
  static var good: [String: [UInt8]] {
    [
      "keys": NumpyArchive.text(keys), "image": NumpyArchive.floats([3, 2, 2], images),
      "boxes": NumpyArchive.floats([3, 2, 4], boxes), "text": NumpyArchive.floats([4, 3], texts),
      "text_keys": NumpyArchive.text(["a", "é1", "a", "c/d.jpg"]),
    ]
  }

  private func file(_ arrays: [String: [UInt8]], _ name: String = "a.npz") throws -> ForeignEmbeddings {
    try ForeignEmbeddings(folder.write(name, NumpyArchive.archive(arrays)))
  }

  private func rows(_ set: EmbeddingSet) throws -> [[Float]] {
    var lengths = EmbeddingSet.Lengths()
    let all = [try set.images(0..<3, &lengths), try set.boxes(0..<3), try set.texts(0..<4, &lengths)].map(\.array)
    #expect((lengths.count, lengths.others, lengths.largest) == (10, 7, 10) && abs(lengths.least - 1) < 1e-6)
    return all
  }

  /// Unit rows in the dataset's order, whatever the order, the type and the number of files.
  @Test func rowsComeInTheOrderOfTheDataset() throws {
    let set = try EmbeddingSet([file(Self.good)], of: dataset)
    #expect(set.views == 2 && set.hasBoxes && set.logitScale == nil && set.extra.count == 0)
    let found = try rows(set)
    let images: [Float] = [1, 0, -0.6, 0.8, 0, 1, 1, 0, 0.6, 0.8, 0, 1]
    #expect(zip(found[0], images).allSatisfy { abs($0 - $1) < 1e-6 }, "\(found[0])")
    #expect(found[1] == Array(Self.boxes[8...] + Self.boxes[..<8]))
    let texts: [Float] = [0, 1, 0, 0, 0, 1, 1, 0, 0, 1 / 3, 2 / 3, 2 / 3]
    #expect(zip(found[2], texts).allSatisfy { abs($0 - $1) < 1e-6 }, "\(found[2])")

    var arrays = Self.good
    arrays["keys"] = NumpyArchive.bytes(Self.keys)
    arrays["image"] = NumpyArchive.halves([3, 2, 2], Self.images)
    arrays["boxes"] = NumpyArchive.doubles([3, 2, 4], Self.boxes)
    arrays["text"] = NumpyArchive.doubles([4, 3], Self.texts)
    #expect(try rows(EmbeddingSet([file(arrays)], of: dataset)) == found)

    func numbers(_ all: [Float], _ each: Int, _ part: Range<Int>) -> [Float] {
      Array(all[each * part.lowerBound..<each * part.upperBound])
    }
    let parts = try [0..<1, 1..<3].map { part in
      try file(
        [
          "keys": NumpyArchive.text(Array(Self.keys[part])),
          "image": NumpyArchive.floats([part.count, 2, 2], numbers(Self.images, 4, part)),
          "boxes": NumpyArchive.floats([part.count, 2, 4], numbers(Self.boxes, 8, part)),
        ], "part\(part.lowerBound).npz")
    }
    let captions = try file(
      ["keys": NumpyArchive.text(["a", "é1", "a", "c/d.jpg"]), "text": NumpyArchive.floats([4, 3], Self.texts)],
      "captions.npz")
    #expect(try rows(EmbeddingSet(parts + [captions], of: dataset)) == found)
    for keys in [HDF5Keys.utf8, .ascii, .fixed] {
      #expect(try rows(EmbeddingSet([ForeignEmbeddings(hdf5(keys))], of: dataset)) == found, "\(keys)")
    }
  }

  /// The forms that h5py gives keys: of variable length in UTF-8 for a list of `str`, in ASCII for one of `bytes`; of
  /// fixed length for an array of bytes; and those of an array with a second dimension.
  private enum HDF5Keys { case utf8, ascii, fixed, column }

  /// Writes the good arrays as h5py does; those with keys of fixed length with times, as its earlier releases do.
  private func hdf5(_ keys: HDF5Keys) throws -> String {
    let path = folder.path("\(keys).h5")
    let isVariable = keys != .fixed
    let file = try HDF5File.create(path)
    try file.withID(object: nil) { (id, place) throws(HDF5Error) in
      let (none, all) = (kinship_h5_default(), kinship_h5_all())
      let creation = try place.check(H5Pcreate(kinship_h5_dataset_create()), "H5Pcreate")
      defer { H5Pclose(creation) }
      try place.check(H5Pset_obj_track_times(creation, !isVariable), "H5Pset_obj_track_times")
      func write(_ name: String, _ type: hid_t, _ shape: [Int], _ values: UnsafeRawPointer) throws(HDF5Error) {
        let space = try place.space(shape)
        defer { H5Sclose(space) }
        let data = try place.check(H5Dcreate2(id, name, type, space, none, creation, none), "H5Dcreate2")
        defer { H5Dclose(data) }
        try place.check(H5Dwrite(data, type, all, all, none, values), "H5Dwrite")
      }
      try write("image", kinship_h5_f32(), [3, 2, 2], Self.images)
      try write("boxes", kinship_h5_f32(), [3, 2, 4], Self.boxes)
      try write("text", kinship_h5_f32(), [4, 3], Self.texts)
      let type = try place.check(H5Tcopy(kinship_h5_c_string()), "H5Tcopy")
      defer { H5Tclose(type) }
      H5Tset_size(type, isVariable ? kinship_h5_variable_length() : 9)
      if isVariable {
        H5Tset_cset(type, keys == .ascii ? H5T_CSET_ASCII : H5T_CSET_UTF8)
      } else {
        H5Tset_strpad(type, H5T_STR_NULLPAD)
      }
      for (name, strings) in [("keys", Self.keys), ("text_keys", ["a", "é1", "a", "c/d.jpg"])] {
        let copies = strings.map { strdup($0) }
        defer { for copy in copies { free(copy) } }
        let fixed = strings.flatMap { Array($0.utf8) + [UInt8](repeating: 0, count: 9 - $0.utf8.count) }
        if isVariable {
          try write(name, type, keys == .column ? [strings.count, 1] : [strings.count], copies)
        } else {
          try write(name, type, [strings.count], fixed)
        }
      }
    }
    try file.close()
    return path
  }

  /// A key that lies in no collection of strings is refused before the library looks for it.
  @Test func aKeyThatIsNowhere() throws {
    var bytes = [UInt8](try Data(contentsOf: URL(filePath: hdf5(.utf8))))
    let strings = try #require(bytes.firstRange(of: Array("GCOL".utf8))).lowerBound
    // A key's place has its length, the collection's address and its number there.
    let place =
      (0..<4).map { UInt8(truncatingIfNeeded: Self.keys[0].utf8.count >> (8 * $0)) }
      + (0..<8).map { UInt8(truncatingIfNeeded: strings >> (8 * $0)) }
    let number = try #require(bytes.firstRange(of: place)).upperBound
    bytes[number] = 99
    let error = #expect(throws: EmbeddingFileError.self) { try ForeignEmbeddings(folder.write("b.h5", bytes)) }
    #expect(
      error?.reason.contains("is string 99 of the collection at address \(strings)") == true, "\(error?.reason ?? "")")
    #expect(error?.status == .badData)
  }

  /// A good archive in which one array is replaced, or left out, and the words with which it is refused.
  struct Refusal: Sendable, CustomTestStringConvertible {
    let array: String
    let bytes: [UInt8]?
    let words: String
    var testDescription: String { "\(array): \(words)" }

    init(_ array: String, _ bytes: [UInt8]?, _ words: String) {
      (self.array, self.bytes, self.words) = (array, bytes, words)
    }
  }

  private static func list(_ keys: String...) -> [UInt8] { NumpyArchive.text(keys) }
  private static func zeros(_ type: String, _ shape: [Int], bytes: Int) -> [UInt8] {
    NumpyArchive.array(type, shape, [UInt8](repeating: 0, count: bytes))
  }

  /// Returns an array whose first numbers are replaced.
  private static func floats(_ shape: [Int], _ values: [Float], _ first: Float...) -> [UInt8] {
    NumpyArchive.floats(shape, first + Array(values.dropFirst(first.count)))
  }

  static let shapes: [Refusal] = [
    Refusal("images", floats([1], [1]), "unknown array images; known are keys, image, boxes, text"),
    Refusal("keys", nil, "keys is missing"),
    Refusal("keys", zeros("<i8", [3], bytes: 24), "keys holds numbers, expected text"),
    Refusal("keys", zeros("|O", [3], bytes: 1), "array keys holds Python objects"),
    Refusal("keys", list("a", "é1"), "keys has 2 entries and image 3 rows"),
    Refusal("keys", NumpyArchive.array("<U1", [1], [0, 0, 0, 0xFF]), "row 0 of keys is not Unicode"),
    Refusal("text_keys", nil, "keys has 3 entries and text 4 rows, expected as many; give the captions' keys"),
    Refusal("image", nil, "boxes is there, and image is not"),
    Refusal("text", nil, "text_keys is there, and text is not"),
    Refusal("image", zeros("<i4", [3, 2], bytes: 24), "image holds I32, expected floating-point numbers"),
    Refusal("image", zeros(">f4", [3, 2], bytes: 24), "array image is big-endian"),
    Refusal("image", NumpyArchive.array("<f4", [3, 2], [0], byColumns: true), "image is stored column by column"),
    Refusal("image", zeros("<f4", [3, 2, 2], bytes: 1), "image has 1 bytes, expected <f4 of the shape [3, 2, 2]"),
    Refusal("image", zeros("<f4", [.max, .max], bytes: 1), "image has 1 bytes, expected <f4 of the shape"),
    Refusal("image", floats([12], images), "image has the shape [12], expected [samples, d]"),
    Refusal("image", Array("no array at all".utf8), "array image was not saved by numpy"),
    Refusal("boxes", nil, "image has 2 views and there are no boxes"),
    Refusal("boxes", floats([6, 4], boxes), "boxes has the shape [6, 4], expected [3, 2, 4]"),
    Refusal("boxes", NumpyArchive.halves([3, 2, 4], boxes), "boxes holds F16, too coarse"),
    Refusal("logit_scale", floats([], [4.6052]), "if it is the logarithm, which a state dict holds"),
    Refusal("logit_scale", floats([], [.infinity]), "logit_scale is inf, expected"),
    Refusal("logit_scale", floats([2], [100, 100]), "logit_scale has the shape [2], expected one number"),
  ]
  static let contents: [Refusal] = [
    Refusal("logit_scale", floats([], [100]), "image is 2 wide and text 3, so they cannot be compared"),
    Refusal("text_keys", list("a", "a", "a", "é1"), "row 2 of text is one too many for the key \"a\""),
    Refusal("keys", list("a", "é1", "a"), "the key \"a\" in row 2 is also that of row 0 in"),
    Refusal("keys", list("a", "é1", "x"), "1 of the 3 images of the dataset three have no embedding"),
    Refusal("keys", list("a", "é1", "c/d"), "of \"c/d.jpg\"; rows with keys that it lacks: 1, first \"c/d\""),
    Refusal("text_keys", list("a", "é1", "x", "c/d.jpg"), "1 of the 4 captions of the dataset three have no embedding"),
    Refusal("image", floats([3, 2, 2], images, .nan), "\"c/d.jpg\", view 0, is not finite"),
    Refusal("image", floats([3, 2, 2], images, 0, 0), "view 0, has the length 0.0, which has no direction"),
    Refusal("text", floats([4, 3], texts, .infinity), "of the key \"a\" is not finite"),
    Refusal("boxes", floats([3, 2, 4], boxes, 0.5, 0, 0.5, 1), "the box [0.5, 0.0, 0.5, 1.0]"),
    Refusal("boxes", floats([3, 2, 4], boxes, 0, 0, 224, 224), "is not within its image"),
    Refusal("boxes", floats([3, 2, 4], boxes, .nan), "is not within its image"),
  ]

  /// Each mistake is named with its file.
  @Test(arguments: shapes + contents) func refusals(_ refusal: Refusal) throws {
    var arrays = Self.good
    arrays[refusal.array] = refusal.bytes
    let error = #expect(throws: EmbeddingFileError.self) {
      _ = try rows(EmbeddingSet([file(arrays)], of: dataset))
    }
    #expect(error?.status == .badData && error?.description.contains(refusal.words) == true, "\(error?.reason ?? "")")
    #expect(error?.path == folder.path("a.npz"))
  }

  @Test func filesThatDoNotFitTogether() throws {
    func refusal(_ changes: [String: [UInt8]]) throws -> String {
      let files = [try file(Self.good), try file(changes, "b.npz")]
      let error = #expect(throws: EmbeddingFileError.self) { try EmbeddingSet(files, of: dataset) }
      return error?.description ?? ""
    }
    let keys = NumpyArchive.text(["x"])
    let wide = NumpyArchive.floats([1, 2, 3], [1, 2, 3, 4, 5, 6])
    let box = NumpyArchive.floats([1, 2, 4], Array(Self.boxes.prefix(8)))
    let wider = try refusal(["keys": keys, "image": wide, "boxes": box])
    #expect(wider.contains("b.npz: the width of image is 3, and 2 in"), "\(wider)")
    let one = try refusal(["keys": keys, "image": NumpyArchive.floats([1, 2], [1, 2])])
    #expect(one.contains("the number of views is 1, and 2 in"), "\(one)")
    let again = try refusal(Self.good.filter { $0.key != "text" && $0.key != "text_keys" })
    #expect(again.contains("b.npz: the key \"c/d.jpg\" in row 0 is also that of row 0 in"), "\(again)")
  }

  /// Rows of unknown keys are counted and not used.
  @Test func extraRows() throws {
    var arrays = Self.good
    arrays["keys"] = NumpyArchive.text(Self.keys + ["x", "y"])
    arrays["image"] = NumpyArchive.floats([5, 2, 2], Self.images + [Float](repeating: .nan, count: 8))
    arrays["boxes"] = NumpyArchive.floats([5, 2, 4], Self.boxes + [Float](repeating: 0, count: 16))
    let set = try EmbeddingSet([file(arrays)], of: dataset)
    #expect(set.extra.count == 2 && set.extra.keys == ["x", "y"])
    _ = try rows(set)
  }

  @Test func otherFiles() throws {
    func refusal(_ bytes: [UInt8]) throws -> String {
      let path = try folder.write("other", bytes)
      let error = #expect(throws: EmbeddingFileError.self) { try ForeignEmbeddings(path) }
      return error?.reason ?? ""
    }
    #expect(try refusal([]).hasPrefix("it is neither an archive that numpy.savez writes nor an HDF5 file"))
    #expect(try refusal(Self.good["image"] ?? []).hasPrefix("it is neither"))
    #expect(try refusal(NumpyArchive.archive(Self.good, method: 8)).contains("write it with numpy.savez"))
    #expect(try refusal(Array(NumpyArchive.archive(Self.good).dropLast(40))).hasPrefix("it has no table of entries"))
    let cut = try refusal([0x89, 0x48, 0x44, 0x46, 0x0D, 0x0A, 0x1A, 0x0A, 1, 2, 3])
    #expect(cut.contains("it is truncated, or no HDF5 file"), "\(cut)")
    let missing = #expect(throws: EmbeddingFileError.self) { try ForeignEmbeddings(folder.path("missing")) }
    #expect(missing?.status == .inputOutput)
    let full = try HDF5File.create(folder.path("numbers.h5"))
    try full.createDataset("keys", .int64, shape: [1]).write([1])
    try full.createDataset("image", .float32, shape: [1, 2]).write([1, 2] as [Float])
    try full.close()
    let numbers = #expect(throws: EmbeddingFileError.self) { try ForeignEmbeddings(folder.path("numbers.h5")) }
    #expect(numbers?.reason.contains("keys holds numbers, expected text") == true)
    let grouped = try HDF5File.create(folder.path("grouped.h5"))
    try grouped.createDataset("image/large", .float32, shape: [1, 2]).write([1, 2] as [Float])
    try grouped.close()
    let group = #expect(throws: EmbeddingFileError.self) { try ForeignEmbeddings(folder.path("grouped.h5")) }
    #expect(group?.reason == "image: it is a group, expected a data set" && group?.status == .badData)
    let column = #expect(throws: HDF5Error.self) {
      try EmbeddingSet([ForeignEmbeddings(hdf5(.column))], of: dataset)
    }
    #expect(column?.cause == "its shape is [3, 1], expected one dimension" && column?.status == .badData)
  }
}
