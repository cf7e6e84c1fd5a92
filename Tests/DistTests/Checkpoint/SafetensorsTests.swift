import Dist
import Foundation
import Tensor
import TestSupport
import Testing

@Suite struct SafetensorsTests {
  let folder = try! TemporaryFolder()

  /// Opens a file of these bytes after the length of the header.
  private func file(_ header: String, _ data: [UInt8]) throws -> SafetensorsFile {
    let length = (0..<8).map { UInt8(truncatingIfNeeded: header.utf8.count >> ($0 * 8)) }
    return try SafetensorsFile(try folder.write("hand.safetensors", length + Array(header.utf8) + data))
  }

  @Test func readsBytesPutTogetherByHand() throws {
    let file = try file(
      #"{"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[2],"data_offsets":[2,10]},"#
        + #""half":{"dtype":"F16","shape":[],"data_offsets":[0,2]}}   "#,
      [0x00, 0x3E, 0x00, 0x00, 0x80, 0x3F, 0x00, 0x00, 0x20, 0xC1])
    #expect(file.names == ["half", "b"])
    #expect(file.metadata == ["format": "pt"])
    #expect(try file.shape(of: "half") == Shape())
    #expect(try file.type(of: "half") == .float16)
    #expect(try file.tensor("half", as: Float.self).array == [1.5])
    #expect(try file.tensor("half", as: Double.self).array == [1.5])
    #expect(try file.tensor("b", as: Float.self).array == [1, -10])
    #expect(try file.tensor("b", as: Double.self).array == [1, -10])
    #expect(file.contains("b") && !file.contains("c"))
  }

  @Test func readsBrainFloatsAndEmptyTensors() throws {
    let file = try file(
      #"{"x":{"dtype":"BF16","shape":[2,1],"data_offsets":[0,4]},"none":{"shape":[3,0],"dtype":"F64","#
        + #""data_offsets":[4,4]}}"#, [0xC0, 0x3F, 0x80, 0xFF])
    #expect(try file.tensor("x", as: Float.self).array == [1.5, -.infinity])
    #expect(try file.tensor("x", as: Float.self).shape == Shape(2, 1))
    #expect(try file.tensor("none", as: Double.self).shape == Shape(3, 0))
  }

  @Test func readsIntegersOfEveryWidth() throws {
    let file = try file(
      #"{"i64":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},"#
        + #""i32":{"dtype":"I32","shape":[1],"data_offsets":[8,12]},"#
        + #""i16":{"dtype":"I16","shape":[1],"data_offsets":[12,14]},"#
        + #""i8":{"dtype":"I8","shape":[1],"data_offsets":[14,15]},"#
        + #""u8":{"dtype":"U8","shape":[2],"data_offsets":[15,17]},"#
        + #""bool":{"dtype":"BOOL","shape":[2],"data_offsets":[17,19]},"#
        + #""no":{"dtype":"BOOL","shape":[1],"data_offsets":[19,20]}}"#,
      [0xFE, 255, 255, 255, 255, 255, 255, 255, 0xFD, 255, 255, 255, 0xFC, 255, 0xFB, 0, 250, 1, 0, 2])
    #expect(try file.integers("i64") == [-2])
    #expect(try file.integers("i32") == [-3])
    #expect(try file.integers("i16") == [-4])
    #expect(try file.integers("i8") == [-5])
    #expect(try file.integers("u8") == [0, 250])
    #expect(try file.integers("bool") == [1, 0])
    #expect(#expect(throws: SafetensorsError.self) { try file.integers("no") }?.reason.contains("boolean 2") == true)
  }

  @Test func roundsToNearestWhenNarrowing() throws {
    let path = folder.path("wide.safetensors")
    let values = [0.1, 1 / 3.0, 1e300, -1e-300, .nan]
    try SafetensorsFile.write([.init("x", Tensor<Double>(Shape(5), values))], to: path)
    let narrow = try SafetensorsFile(path).tensor("x", as: Float.self)
    #expect(narrow.array.prefix(4) == [0.1, Float(1 / 3.0), .infinity, -0.0])
    #expect(narrow[4].isNaN)
  }

  @Test func keepsWhatWasWritten() throws {
    let path = folder.path("kept.safetensors")
    let floats = Tensor<Float>(Shape(2, 3, 1, 2), (0..<12).map { Float($0) / 7 })
    let scalar = Tensor<Double>(Shape(), [.pi])
    let name = "odd \"name\" \\ with\ttab, é, 👪"
    try SafetensorsFile.write(
      [
        .init("bytes", integers: [0, 255, 7], shape: Shape(3), type: .uint8),
        .init("small", integers: [-128, 127], shape: Shape(2), type: .int8),
        .init("flags", integers: [1, 0], shape: Shape(2), type: .bool),
        .init("short", integers: [-32768, 32767], shape: Shape(1, 2), type: .int16),
        .init("steps", integers: [-5, 1 << 30], shape: Shape(2), type: .int32),
        .init("wide", integers: [.min, .max], shape: Shape(2)), .init(name, floats), .init("scale", scalar),
      ], metadata: ["note": "line\nbreak", "empty": ""], to: path)
    let file = try SafetensorsFile(URL(filePath: path))
    #expect(file.metadata == ["note": "line\nbreak", "empty": ""])
    #expect(file.names == ["wide", "scale", "steps", name, "short", "bytes", "small", "flags"])
    #expect(try file.tensor(name, as: Float.self).array == floats.array)
    #expect(try file.shape(of: name) == Shape(2, 3, 1, 2))
    #expect(try file.tensor("scale", as: Double.self).array == [.pi])
    #expect(try file.shape(of: "scale") == Shape())
    #expect(try file.integers("wide") == [.min, .max])
    #expect(try file.integers("steps") == [-5, 1 << 30])
    #expect(try file.integers("short") == [-32768, 32767])
    #expect(try file.integers("bytes") == [0, 255, 7])
    #expect(try file.integers("small") == [-128, 127])
    #expect(try file.integers("flags") == [1, 0])
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.url.path) == ["kept.safetensors"])
  }

  /// The tensor is longer than the piece in which numbers are converted.
  @Test func readsLongTensorsWhole() throws {
    let path = folder.path("long.safetensors")
    let count = (1 << 18) + 3
    let values = (0..<count).map { Double($0) }
    try SafetensorsFile.write([.init("x", Tensor<Double>(Shape(count), values))], to: path)
    let tensor = try SafetensorsFile(path).tensor("x", as: Float.self)
    #expect(tensor[0] == 0 && tensor[(1 << 18) - 1] == 262_143 && tensor[1 << 18] == 262_144)
    #expect(tensor[count - 1] == 262_146)
  }

  @Test func readsIntoAnArena() throws {
    let path = folder.path("into.safetensors")
    try SafetensorsFile.write([.init("x", Tensor<Float>(Shape(2, 2), [1, 2, 3, 4]))], to: path)
    let arena = Arena<Double>(count: 8)
    try SafetensorsFile(path).read("x", into: arena.tensor(at: 3, Shape(4)))
    #expect(arena.vector.array == [0, 0, 0, 1, 2, 3, 4, 0])
  }

  @Test func replacesAFileOrLeavesItAlone() throws {
    let path = folder.path("replaced.safetensors")
    try SafetensorsFile.write([.init("old", Tensor<Float>(Shape(1), [1]))], to: path)
    let tooLarge = SafetensorsEntry("new", integers: [300], shape: Shape(1), type: .uint8)
    let error = #expect(throws: SafetensorsError.self) { try SafetensorsFile.write([tooLarge], to: path) }
    #expect(error?.reason == "tensor new holds 300, which does not fit U8")
    #expect(try SafetensorsFile(path).names == ["old"])
    try SafetensorsFile.write([.init("new", Tensor<Float>(Shape(1), [2]))], to: path)
    #expect(try SafetensorsFile(path).tensor("new", as: Float.self).array == [2])
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.url.path) == ["replaced.safetensors"])
  }

  @Test(arguments: ["x", "__metadata__"])
  func refusesToWriteANameTwice(name: String) throws {
    let one = Tensor<Float>(Shape(1))
    let error = #expect(throws: SafetensorsError.self) {
      try SafetensorsFile.write([.init("x", one), .init(name, one)], to: folder.path("twice.safetensors"))
    }
    #expect(error?.reason == "two tensors to write have the name \(name)")
  }

  @Test func errorsOfTheSystem() throws {
    let missing = #expect(throws: SafetensorsError.self) { try SafetensorsFile(folder.path("missing")) }
    #expect(missing?.status == .inputOutput)
    #expect(missing?.reason == "cannot open it: No such file or directory")
    let isFolder = #expect(throws: SafetensorsError.self) { try SafetensorsFile(folder.url) }
    #expect(isFolder?.reason == "cannot read it: it is not a file but a folder")
    let nowhere = #expect(throws: SafetensorsError.self) {
      try SafetensorsFile.write([], to: folder.path("no/such/folder"))
    }
    #expect(nowhere?.status == .inputOutput)
  }

  @Test func errorsOfTypesAndShapes() throws {
    let path = folder.path("types.safetensors")
    try SafetensorsFile.write(
      [.init("x", Tensor<Float>(Shape(2))), .init("n", integers: [1], shape: Shape(1))], to: path)
    let file = try SafetensorsFile(path)
    func reason(_ body: () throws -> Void) -> String? {
      #expect(throws: SafetensorsError.self, performing: body)?.reason
    }
    #expect(
      reason { _ = try file.tensor("n", as: Float.self) } == "tensor n holds I64, expected floating-point numbers")
    #expect(reason { _ = try file.integers("x") } == "tensor x holds F32, expected integers")
    #expect(reason { _ = try file.shape(of: "y") } == "it has no tensor y; it has 2, among them n, x")
    #expect(
      reason { try file.read("x", into: Tensor<Float>(Shape(3))) } == "tensor x has the shape [2], expected [3]")
  }
}

@Suite struct GoldenSafetensorsTests {
  /// Every tensor of every file of the golden set equals the bytes that Foundation's JSON decoder locates.
  @Test func readsEveryGoldenFile() throws {
    let found = FileManager.default.enumerator(at: Fixture.golden, includingPropertiesForKeys: nil)
    let files = (found?.allObjects ?? []).compactMap { $0 as? URL }.filter { $0.pathExtension == "safetensors" }
    for url in try Fixture.required(files, "safetensors files") {
      let bytes = try Data(contentsOf: url)
      let length = bytes[..<8].reversed().reduce(0) { $0 << 8 | Int($1) }
      let header = try JSONSerialization.jsonObject(with: bytes[8..<8 + length]) as? [String: [String: Any]] ?? [:]
      let file = try SafetensorsFile(url)
      #expect(Set(file.names) == Set(header.keys).subtracting(["__metadata__"]))
      for (name, entry) in header where name != "__metadata__" {
        let offsets = try #require(entry["data_offsets"] as? [Int])
        let data = bytes[(8 + length + offsets[0])..<(8 + length + offsets[1])]
        #expect(try file.shape(of: name).array == entry["shape"] as? [Int])
        switch entry["dtype"] as? String {
        case "F32": #expect(try file.tensor(name, as: Float.self).array.bytes == Array(data), "\(name)")
        case "F64": #expect(try file.tensor(name, as: Double.self).array.bytes == Array(data), "\(name)")
        case "I32": #expect(try file.integers(name).map { Int32($0) }.bytes == Array(data), "\(name)")
        case "I64": #expect(try file.integers(name).bytes == Array(data), "\(name)")
        case "U8": #expect(try file.integers(name).map { UInt8($0) } == Array(data), "\(name)")
        default: Issue.record("\(url.lastPathComponent) holds \(name) of an unexpected type")
        }
      }
    }
  }
}

extension Array {
  fileprivate var bytes: [UInt8] { withUnsafeBytes { [UInt8]($0) } }
}
