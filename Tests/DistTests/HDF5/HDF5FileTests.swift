import Dist
import Foundation
import Subprocess
import Tensor
import TestSupport
import Testing

@Suite struct HDF5FileTests {
  let folder: TemporaryFolder
  let path: String

  init() throws {
    folder = try TemporaryFolder()
    path = folder.path("a.h5")
  }

  @Test func everyTypeComesBack() throws {
    let file = try HDF5File.create(path)
    func put<T: HDF5Element>(_ name: String, _ values: [T]) throws {
      let dataset = try file.createDataset(name, T.hdf5Type, shape: [values.count])
      try dataset.write(values)
    }
    let halves: [Float16] = [0, -0.0, 1, -65504, 6e-8, .infinity, 0.333]
    let brains = [0, -1, 3.14, Float.greatestFiniteMagnitude, .infinity, .leastNonzeroMagnitude * 131072].map(
      BFloat16.init)
    try put("u8", [0, 255, 7] as [UInt8])
    try put("i32", [.min, -1, .max] as [Int32])
    try put("i64", [.min, -1, .max] as [Int64])
    try put("u64", [0, .max, 1 << 63] as [UInt64])
    try put("f16", halves)
    try put("bf16", brains)
    try put("f32", [0, .pi, -.leastNonzeroMagnitude, .infinity] as [Float])
    try put("deep/er/f64", [0, .pi, -.leastNonzeroMagnitude, .infinity] as [Double])
    try file.close()

    let read = try HDF5File.open(path)
    #expect(try read.names() == ["bf16", "deep", "f16", "f32", "i32", "i64", "u64", "u8"])
    #expect(try read.names(in: "deep") == ["er"])
    #expect(try read.contains("deep/er/f64"))
    #expect(try !read.contains("deep/no/f64"))
    #expect(try read.dataset("u8").read(UInt8.self) == [0, 255, 7])
    #expect(try read.dataset("i32").read(Int32.self) == [.min, -1, .max])
    #expect(try read.dataset("i64").read(Int.self) == [.min, -1, .max])
    #expect(try read.dataset("u64").read(UInt64.self) == [0, .max, 1 << 63])
    #expect(try read.dataset("f16").read(Float16.self).map(\.bitPattern) == halves.map(\.bitPattern))
    #expect(try read.dataset("bf16").read(BFloat16.self) == brains)
    #expect(try read.dataset("f32").read(Float.self) == [0, .pi, -.leastNonzeroMagnitude, .infinity])
    #expect(try read.dataset("deep/er/f64").read(Double.self) == [0, .pi, -.leastNonzeroMagnitude, .infinity])
    // The library converts to wider types.
    #expect(try read.dataset("bf16").read(Float.self) == brains.map(\.float))
    #expect(try read.dataset("f16").read(Double.self) == halves.map(Double.init))
  }

  @Test func rowsAreWrittenAndReadAlone() throws {
    let file = try HDF5File.create(path)
    let matrix = try file.createDataset("m", .float32, shape: [5, 2, 3])
    for row in 0..<5 {
      try matrix.write((0..<6).map { Float(10 * row + $0) }, rows: row..<(row + 1))
    }
    let tensor = Tensor<Float>(Shape(2, 6))
    try matrix.read(into: tensor, rows: 2..<4)
    #expect(tensor.array == [20, 21, 22, 23, 24, 25, 30, 31, 32, 33, 34, 35])
    try matrix.write(Tensor<Float>(Shape(6), [1, 2, 3, 4, 5, 6]), rows: 4..<5)
    #expect(try matrix.read(Float.self, rows: 4..<5) == [1, 2, 3, 4, 5, 6])
    #expect(try matrix.read(Float.self, rows: 3..<3) == [])
    #expect(throws: HDF5Error.self) { try matrix.read(Float.self, rows: 3..<6) }
    #expect(throws: HDF5Error.self) { try matrix.read(into: tensor, rows: 2..<5) }
  }

  @Test func scalarsAndEmptyArrays() throws {
    let file = try HDF5File.create(path)
    try file.createDataset("scale", .float32, shape: []).write([2.5] as [Float])
    try file.createDataset("none", .uint64, shape: [0]).write([UInt64]())
    try file.close()
    let read = try HDF5File.open(path)
    let scale = try read.dataset("scale")
    #expect(scale.shape == [])
    #expect(try scale.read(Float.self) == [2.5])
    let none = try read.dataset("none")
    #expect(none.shape == [0])
    #expect(none.fileOffset == nil)
    #expect(try none.read(UInt64.self) == [])
  }

  @Test func attributesOfRootGroupAndDataset() throws {
    let file = try HDF5File.create(path)
    let dataset = try file.createDataset("g/d", .uint8, shape: [1])
    try dataset.write([1] as [UInt8])
    try file.attributes.set("name", "Ünïcode 🦊")
    try file.attributes.set("empty", "")
    try file.attributes.set("count", -3)
    try file.attributes(of: "g").set("seed", UInt64.max)
    try file.attributes(of: "g/d").set("rate", 0.1)
    #expect(throws: HDF5Error.self) { try file.attributes.set("zero", "a\0b") }
    #expect(throws: HDF5Error.self) { try file.attributes.set("count", 4) }
    try file.close()
    let read = try HDF5File.open(path)
    #expect(try read.attributes.names() == ["count", "empty", "name"])
    #expect(try read.attributes.string("name") == "Ünïcode 🦊")
    #expect(try read.attributes.string("empty") == "")
    #expect(try read.attributes.integer("count") == -3)
    #expect(try read.attributes(of: "g").integer("seed", as: UInt64.self) == .max)
    #expect(try read.attributes(of: "g/d").double("rate") == 0.1)
    #expect(try !read.attributes.contains("other"))
    #expect(throws: HDF5Error.self) { try read.attributes(of: "g").integer("seed") as Int }
    #expect(throws: HDF5Error.self) { try read.attributes.integer("name") as Int }
    #expect(throws: HDF5Error.self) { try read.attributes.string("count") }
  }

  @Test func errorsTellCallFileObjectAndCause() throws {
    let missing = #expect(throws: HDF5Error.self) { try HDF5File.open(folder.path("none.h5")) }
    #expect(missing?.call == "open")
    #expect(missing?.path == folder.path("none.h5"))
    #expect(missing?.cause.contains("No such file") == true)

    let file = try HDF5File.create(path)
    #expect(throws: HDF5Error.self) { try HDF5File.create(path) }
    let absent = #expect(throws: HDF5Error.self) { try file.dataset("x") }
    #expect(absent?.object == "x")
    #expect(absent?.cause.isEmpty == false)
    let dataset = try file.createDataset("d", .float32, shape: [2])
    let wrong = #expect(throws: HDF5Error.self) { try dataset.write([1.0, 2.0] as [Double]) }
    #expect(wrong?.cause == "the data set holds f32, the values are f64")
    #expect(throws: HDF5Error.self) { try dataset.write([1.0] as [Float]) }
    #expect(throws: HDF5Error.self) { try dataset.read(UInt8.self) }
    try file.close()
    try file.close()
    let closed = #expect(throws: HDF5Error.self) { try dataset.read(Float.self) }
    #expect(closed?.cause == "the file is closed")
  }

  @Test func equalContentsGiveEqualBytes() throws {
    func make(_ name: String) throws -> Data {
      let file = try HDF5File.create(folder.path(name))
      try file.createDataset("g/d", .int32, shape: [3]).write([1, 2, 3] as [Int32])
      try file.attributes.set("name", "x")
      try file.close()
      return try Data(contentsOf: URL(filePath: folder.path(name)))
    }
    // The library's clock may lag a little.
    let start = UInt32(Date.now.timeIntervalSince1970 - 0.1)
    let first = try make("1.h5")
    #expect(try make("2.h5") == first)
    // Two files with a time could be equal if they were written in the same second, so no such time may be in them.
    // HDF5 stores times as seconds in four bytes.
    for time in start...UInt32(Date.now.timeIntervalSince1970) {
      #expect(first.range(of: withUnsafeBytes(of: time.littleEndian) { Data($0) }) == nil)
    }
  }

  @Test func numbersLieWhereFileOffsetSays() throws {
    let file = try HDF5File.create(path)
    let dataset = try file.createDataset("d", .uint8, shape: [5])
    try dataset.write([9, 8, 7, 6, 5] as [UInt8])
    let offset = try #require(dataset.fileOffset)
    try file.close()
    #expect([UInt8](try Data(contentsOf: URL(filePath: path))[offset..<offset + 5]) == [9, 8, 7, 6, 5])
    #expect(try HDF5File.open(path).dataset("d").fileOffset == offset)
  }

  @Test func truncatedAtAnyLengthIsRefused() throws {
    let file = try HDF5File.create(path)
    try file.createDataset("d", .uint8, shape: [4000]).write([UInt8](repeating: 3, count: 4000))
    try file.attributes.set("name", "text")
    try file.close()
    let whole = try Data(contentsOf: URL(filePath: path))
    for length in stride(from: 0, to: whole.count, by: 61) {
      let cut = try folder.write("cut.h5", whole.prefix(length))
      #expect(throws: HDF5Error.self, "\(length) bytes of \(whole.count)") {
        let file = try HDF5File.open(cut)
        _ = try file.dataset("d").read(UInt8.self)
        _ = try file.attributes.string("name")
      }
    }
  }

  @Test func h5dumpReadsWhatWeWrite() async throws {
    let file = try HDF5File.create(path)
    try file.createDataset("g/half", .bfloat16, shape: [2]).write([1.5, -2].map(BFloat16.init))
    try file.createDataset("offsets", .uint64, shape: [2]).write([7, 1 << 40] as [UInt64])
    try file.attributes.set("schema", "kinship")
    try file.close()
    let result = try await run(
      .name("h5dump"), arguments: [path], output: .string(limit: 1 << 20), error: .string(limit: 1 << 20))
    let text = result.standardOutput
    #expect(result.terminationStatus.isSuccess)
    #expect(text.contains("16-bit little-endian floating-point"))
    #expect(text.contains("1.5, -2"))
    #expect(text.contains("H5T_STD_U64LE"))
    #expect(text.contains("7, 1099511627776"))
    #expect(text.contains("CSET H5T_CSET_UTF8"))
    #expect(text.contains("\"kinship\""))
  }

  @Test func aFileThatAnotherLocksCanBeRead() throws {
    let file = try HDF5File.create(path)
    try file.createDataset("d", .uint8, shape: [1]).write([4] as [UInt8])
    try file.close()
    let other = try #require(FileHandle(forUpdatingAtPath: path))
    #expect(flock(other.fileDescriptor, LOCK_EX | LOCK_NB) == 0)
    #expect(try HDF5File.open(path).dataset("d").read(UInt8.self) == [4])
    try other.close()
  }

  @Test func chunkedDataAreRefused() async throws {
    let file = try HDF5File.create(path)
    try file.createDataset("d", .uint8, shape: [100]).write([UInt8](repeating: 4, count: 100))
    try file.close()
    let other = folder.path("chunked.h5")
    let result = try await run(
      .name("h5repack"), arguments: ["-l", "d:CHUNK=10", path, other], output: .discarded, error: .discarded)
    #expect(result.terminationStatus.isSuccess)
    let error = #expect(throws: HDF5Error.self) { try HDF5File.open(other) }
    #expect(error?.call == "check")
    #expect(error?.status == .badData)
  }

  @Test func manyThreadsReadOneFile() async throws {
    let file = try HDF5File.create(path)
    try file.createDataset("d", .int64, shape: [1000]).write(Array(0..<1000) as [Int])
    try file.close()
    let read = try HDF5File.open(path)
    let dataset = try read.dataset("d")
    try await withThrowingTaskGroup(of: Bool.self) { group in
      for task in 0..<8 {
        group.addTask {
          for row in stride(from: task, to: 1000, by: 8) {
            guard try dataset.read(Int.self, rows: row..<(row + 1)) == [row] else { return false }
          }
          return true
        }
      }
      for try await same in group { #expect(same) }
    }
  }

  @Test func roundingToBFloat16() {
    #expect(BFloat16(1).bitPattern == 0x3F80)
    // Ties round to even; values above a tie round up.
    #expect(BFloat16(Float(bitPattern: 0x3F80_8000)).bitPattern == 0x3F80)
    #expect(BFloat16(Float(bitPattern: 0x3F81_8000)).bitPattern == 0x3F82)
    #expect(BFloat16(Float(bitPattern: 0x3F80_8001)).bitPattern == 0x3F81)
    #expect(BFloat16(Float(bitPattern: 0x7F7F_FFFF)).float == .infinity)
    #expect(BFloat16(.nan).float.isNaN)
    #expect(BFloat16(Float(bitPattern: 0x7F80_0001)).float.isNaN)
  }
}
