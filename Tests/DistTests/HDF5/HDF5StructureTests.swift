import Foundation
import Tensor
import TestSupport
import Testing

@testable import Dist

/// Files of ours are accepted in all of their layouts, and a changed field is refused with its byte.
@Suite struct HDF5StructureTests {
  let folder: TemporaryFolder
  let path: String

  init() throws {
    folder = try TemporaryFolder()
    path = folder.path("a.h5")
  }

  /// Links lie in a table, in the header, and in heaps with trees of one, two and three levels.
  @Test(arguments: [(0, 0), (1, 512), (8, 0), (9, 512), (60, 0), (1300, 512)])
  func filesOfAnySize(members: Int, userBlock: Int) throws {
    let file = try HDF5File.create(path, userBlock: userBlock)
    for index in 0..<members {
      try file.createDataset("group/visual.\(index).weight", .float32, shape: [2, 3]).write(
        [0, 1, 2, 3, 4, 5] as [Float])
    }
    for index in 0..<40 { try file.attributes.set("text \(index)", String(repeating: "é", count: 10 * index)) }
    try file.close()
    let read = try HDF5File.open(path)
    #expect(try read.attributes.string("text 39").count == 390)
    if members > 0 {
      #expect(try read.dataset("group/visual.\(members - 1).weight").read(Float.self) == [0, 1, 2, 3, 4, 5])
    }
  }

  /// A file may give any sizes to what it does not hold.
  @Test func noRowsOfSizesBeyondCounting() throws {
    let file = try HDF5File.create(path)
    let none = HDF5Dataset(file: file, name: "none", type: .float32, shape: [0, 1 << 62, 1 << 62], fileOffset: nil)
    #expect(try none.read(Float.self, rows: 0..<0) == [])
    try file.close()
  }

  @Test func filesOfAnEarlierRelease() throws {
    let earlier = Fixture.folder("earlier").appending(path: "files")
    let names = try FileManager.default.subpathsOfDirectory(atPath: earlier.path).filter { $0.hasSuffix(".h5") }
    #expect(names.count == 9)
    for name in names {
      let path = earlier.appending(path: name).path(percentEncoded: false)
      // The view over a cache's parts is virtual, and only for other tools.
      if name.hasSuffix("embeddings.h5") {
        #expect(throws: HDF5Error.self) { try HDF5Structure.check(path) }
      } else {
        #expect(throws: Never.self, "\(name)") { try HDF5Structure.check(path) }
      }
    }
  }

  /// The bits of a byte that are changed, and the byte that the error names, both counted from a signature.
  struct Change: Sendable, CustomTestStringConvertible {
    let signature: String
    let byte: Int
    let bits: UInt8
    let named: Int
    var testDescription: String { "\(signature) + \(byte)" }

    init(_ signature: String, _ byte: Int, _ bits: UInt8, named: Int? = nil) {
      (self.signature, self.byte, self.bits, self.named) = (signature, byte, bits, named ?? byte)
    }
  }

  static let changes = [
    // The superblock: its version, and the file's end.
    Change("HDF\r\n", 7, 2), Change("HDF\r\n", 39, 1),
    // A symbol table: the number of leaves, the leaf's address; the names' first free byte; the number of members, a
    // name, and an object's address.
    Change("TREE", 6, 2), Change("TREE", 39, 0x80, named: 32), Change("HEAP", 16, 0xFF), Change("SNOD", 6, 8),
    Change("SNOD", 8, 1), Change("SNOD", 23, 0x80, named: 16),
    // Strings: the collection's size, and a length.
    Change("GCOL", 9, 0x10, named: 8), Change("GCOL", 31, 0x80, named: 24),
    // A heap of links: the size of its blocks, the smallest block, the number of rows, a block's address and offset.
    Change("FRHP", 54, 1), Change("FRHP", 112, 1), Change("FRHP", 140, 0x40), Change("FHIB", 24, 0x80, named: 17),
    Change("FHDB", 13, 1),
    // A tree of links: its depth, the number of records in its root and of all; hashes; a link's kind and offset.
    Change("BTHD", 12, 0x10), Change("BTHD", 25, 0x80, named: 24), Change("BTHD", 26, 1), Change("BTIN", 6, 1),
    Change("BTLF", 6, 1), Change("BTLF", 10, 1), Change("BTLF", 14, 0x80, named: 11),
  ]

  @Test(arguments: changes) func aChangedField(_ change: Change) throws {
    let file = try HDF5File.create(path)
    for index in 0..<60 { try file.createDataset("many/member \(index)", .uint8, shape: [1]).write([7] as [UInt8]) }
    try file.createDataset("few/member", .uint8, shape: [1]).write([7] as [UInt8])
    try file.attributes.set("name", "text")
    try file.close()
    var bytes = [UInt8](try Data(contentsOf: URL(filePath: path)))
    let start = try #require(bytes.firstRange(of: Array(change.signature.utf8))).lowerBound
    let sum = Self.checksum(of: bytes, at: start)
    let hasNone = ["HDF\r\n", "TREE", "HEAP", "SNOD", "GCOL"].contains(change.signature)
    #expect((sum == nil) == hasNone)
    bytes[start + change.byte] ^= change.bits
    if let sum {
      let value = sum.value(bytes)
      for index in 0..<4 { bytes[sum.place + index] = UInt8(truncatingIfNeeded: value >> (8 * UInt32(index))) }
    }
    let altered = try folder.write("b.h5", bytes)
    let error = #expect(throws: HDF5Error.self) { try HDF5File.open(altered) }
    #expect(error?.object == "byte \(start + change.named)", "\(error?.description ?? "")")
    #expect(error?.call == "check")
    #expect(error?.status == .badData)
  }

  /// The place of a structure's checksum, and what it covers.
  struct Sum {
    let place: Int
    let covered: Range<Int>

    /// Returns the checksum of these bytes, in which its own place counts as zeros.
    func value(_ bytes: [UInt8]) -> UInt32 {
      var copy = bytes
      copy.replaceSubrange(place..<place + 4, with: [0, 0, 0, 0])
      return lookup3(Array(copy[covered]))
    }
  }

  /// Returns the checksum of the structure at `start`, which is where it fits; nil if it has none.
  static func checksum(of bytes: [UInt8], at start: Int) -> Sum? {
    let atEnd = (6..<600).map { Sum(place: start + $0, covered: start..<start + $0) }
    let candidates = [Sum(place: start + 17, covered: start..<start + 512)] + atEnd
    return candidates.first {
      max($0.covered.upperBound, $0.place + 4) <= bytes.count && $0.value(bytes) == bytes.little(4, at: $0.place)
    }
  }

  /// Jenkins gives these values with his code.
  @Test func lookup3Values() {
    #expect(lookup3([]) == 0xDEAD_BEEF)
    #expect(lookup3(Array("Four score and seven years ago".utf8)) == 0x1777_0551)
  }
}
