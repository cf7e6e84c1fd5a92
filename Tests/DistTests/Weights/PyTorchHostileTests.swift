import Dist
import Foundation
import Tensor
import TestSupport
import Testing

/// Inconsistent files, and files that would make Python run code: each is refused when it is opened, with a reason.
@Suite struct PyTorchHostileTests {
  let folder = try! TemporaryFolder()

  private func refusal(_ bytes: [UInt8]) throws -> String {
    let path = try folder.write("hostile.pt", bytes)
    let error = #expect(throws: PyTorchError.self) { try PyTorchFile(path) }
    #expect(error?.status == .badData)
    #expect(error?.description.hasPrefix("PyTorch file \(path): ") == true)
    return error?.reason ?? ""
  }

  /// Returns the reason for refusing an archive with this pickle and a storage "0" of six numbers.
  private func refusal(pickle: [UInt8]) throws -> String {
    try refusal(TorchArchive.archive(pickle, [("0", [UInt8](repeating: 0, count: 24))]))
  }

  private static let good = TorchArchive.checkpoint([.init("a", [2], [1, 2])])

  /// A good file truncated to every length.
  @Test func truncatedAnywhere() throws {
    for count in 0..<Self.good.count { #expect(try !refusal(Array(Self.good.prefix(count))).isEmpty) }
    #expect(try refusal(Self.good + [0]).hasPrefix("it has no table of entries at its end"))
  }

  /// A good file with any one byte changed is either read or refused.
  @Test func damagedAnywhere() throws {
    for at in Self.good.indices {
      for change in [0xFF, 0x01] as [UInt8] {
        var bytes = Self.good
        bytes[at] ^= change
        let path = try folder.write("damaged.pt", bytes)
        do throws(PyTorchError) {
          let file = try PyTorchFile(path)
          for name in file.names { _ = try? file.read(name, into: Tensor<Float>(Shape(2))) }
        } catch {
          #expect(!error.reason.isEmpty)
        }
      }
    }
  }

  @Test func otherForms() throws {
    let old: [UInt8] = [0x80, 2, 0x8A, 0x0A, 0x6C, 0xFC, 0x9C, 0x46, 0xF9, 0x20]
    #expect(try refusal(old).hasPrefix("it is in the format of torch.save before version 1.6"))
    var tar = [UInt8](repeating: 0, count: 1024)
    tar.replaceSubrange(257..<262, with: Array("ustar".utf8))
    #expect(try refusal(tar).hasPrefix("it is in the format of torch.save before version 1.6"))
    #expect(try refusal(Array("hello".utf8)).hasPrefix("it is not a zip archive, which torch.save writes"))
    #expect(
      try refusal(TorchArchive.zip([("m/data.pkl", []), ("m/constants.pkl", [])])).hasPrefix(
        "it is a TorchScript program"))
    #expect(
      try refusal(TorchArchive.zip([("m/data.pkl", []), ("m/byteorder", Array("big".utf8))]))
        == "its byte order is big; only little can be read")
    #expect(
      try refusal(TorchArchive.zip([("data.pkl", [])]))
        == "it is a zip archive, but torch.save did not write it: it has 0 entries NAME/data.pkl")
    #expect(try refusal(TorchArchive.zip([("m/data.pkl", []), ("n/data.pkl", [])])).contains("it has 2 entries"))
    let missing = #expect(throws: PyTorchError.self) { try PyTorchFile(folder.path("missing.pt")) }
    #expect(missing?.status == .inputOutput)
  }

  @Test(arguments: [
    ("../../etc/passwd", "leads out of its folder"), ("/etc/passwd", "leads out of its folder"),
    ("m/..", "leads out of its folder"), ("m\\data", "leads out of its folder"),
  ])
  func namesThatArePaths(name: String, reason: String) throws {
    #expect(try refusal(TorchArchive.zip([("m/data.pkl", []), (name, [1])])).hasSuffix(reason))
  }

  @Test func lyingArchives() throws {
    let entry = [("m/data.pkl", [UInt8](repeating: 1, count: 10))]
    #expect(try refusal(TorchArchive.zip(entry, method: 8)).contains("its entry m/data.pkl is compressed"))
    #expect(try refusal(TorchArchive.zip(entry, flags: 1)) == "its entry m/data.pkl is encrypted")
    #expect(try refusal(TorchArchive.zip(entry + entry)) == "two of its entries have the name m/data.pkl")
    let two = TorchArchive.zip(entry + [("m/x", [1, 2])])
    // In each record of the table the sizes are 20 and 24 bytes after its signature, and the header's offset 42 bytes.
    let tables = two.indices.filter { two[$0...].starts(with: [0x50, 0x4B, 1, 2]) }
    func patched(_ table: Int, _ changes: [(at: Int, value: UInt32)]) -> [UInt8] {
      var bytes = two
      for (at, value) in changes {
        bytes.replaceSubrange(tables[table] + at..<tables[table] + at + 4, with: Pickle.little(value))
      }
      return bytes
    }
    #expect(try refusal(patched(0, [(20, 9), (24, 9)])).contains("pickle"))
    #expect(try refusal(patched(0, [(20, 9)])).hasPrefix("its entry m/data.pkl claims two sizes"))
    #expect(try refusal(patched(0, [(20, 20), (24, 20)])) == "the bytes of its entry m/x overlap those of m/data.pkl")
    #expect(try refusal(patched(0, [(20, 1 << 30), (24, 1 << 30)])).contains("beyond all entries"))
    #expect(try refusal(patched(1, [(42, 0)])).hasPrefix("the bytes of its entry"))
    #expect(try refusal(patched(1, [(42, 5)])).hasPrefix("no entry begins at byte 5"))
    #expect(try refusal(patched(1, [(42, 1 << 30)])).contains("after all entries"))
    #expect(try refusal(patched(1, [(42, .max)])).contains("extra") == false)
    #expect(try refusal(patched(1, [(28, 500)])) == "its table of entries is truncated")
    var many = two
    many.replaceSubrange(two.count - 14..<two.count - 10, with: [0xFE, 0xFF, 0xFE, 0xFF])
    #expect(try refusal(many).hasPrefix("its table claims 65534 entries"))
    var far = two
    far.replaceSubrange(two.count - 6..<two.count - 2, with: Pickle.little(0x7FFF_FFFF as UInt32))
    #expect(try refusal(far).contains("bytes from 2147483647, but ends at"))
    far.replaceSubrange(two.count - 6..<two.count - 2, with: Pickle.little(UInt32.max))
    #expect(try refusal(far) == "its record for large archives is missing")
    var wide = TorchArchive.zip(entry, wide: true)
    let record = wide.indices.first { wide[$0...].starts(with: [0x50, 0x4B, 6, 6]) } ?? 0
    wide.replaceSubrange(record + 48..<record + 56, with: Pickle.little(UInt64.max))
    #expect(try refusal(wide).contains("bytes from 18446744073709551615, but ends at"))
  }

  @Test(arguments: [
    ("os", "system"), ("builtins", "eval"), ("argparse", "Namespace"), ("torch", "load"), ("torch", "Size"),
    ("collections", "defaultdict"), ("torch._utils", "_rebuild_tensor"), ("numpy.core.multiarray", "scalar"),
    ("torch.storage", "_load_from_bytes"),
  ])
  func globalsThatAreNotTensors(module: String, name: String) throws {
    let program = Pickle.program(Pickle.call(Pickle.global(module, name), [Pickle.text("touch /nowhere")]))
    #expect(
      try refusal(pickle: program).hasPrefix(
        "m/data.pkl: at byte 2: it asks for \(module).\(name), but only tensors can be read; in Python,"))
  }

  /// All opcodes of all protocols except those that weights need.
  @Test(
    arguments: Set(UInt8.min...UInt8.max).subtracting(
      Array("NJKMGXqrhj(}])taesucQRb.".utf8) + [0x85, 0x86, 0x87, 0x88, 0x89, 0x8A]
    ).sorted())
  func instructionsThatWeightsDoNotNeed(code: UInt8) throws {
    let hex = String(code, radix: 16, uppercase: true)
    #expect(
      try refusal(pickle: [0x80, 2, code])
        == "m/data.pkl: at byte 2: torch.save writes no instruction 0x\(hex) for weights")
  }

  @Test(arguments: [
    ([0x80, 4], "it is not a pickle of protocol 2; save the weights with the default pickle_protocol of torch.save"),
    ([0x80, 2], "it ends too early, at byte 2"), (Pickle.program([]), "the stack is empty"),
    (Pickle.program(Array("q\u{1}".utf8)), "at byte 2: the stack is empty"),
    (Pickle.program(Array("h\u{1}".utf8)), "at byte 2: the memo has no entry 1"),
    (Pickle.program(Array("t".utf8)), "at byte 2: the stack has no mark"),
    (Pickle.program(Array("(R".utf8)), "at byte 3: the stack is empty"),
    (Pickle.program(Array("NNs".utf8)), "at byte 4: a key is set in a value that is not a dictionary"),
    (Pickle.program(Array("}(Nu".utf8)), "at byte 5: a key has no value"),
    (Pickle.program(Array("}Na".utf8)), "at byte 4: an item is appended to a value that is not a list"),
    (Pickle.program(Array("NNb".utf8)), "at byte 4: attributes are set on a value that has none"),
    (Pickle.program(Array("N)R".utf8)), "at byte 4: a call names no function"),
    (Pickle.program(Array("NNR".utf8)), "at byte 4: a call has no tuple of arguments"),
    (
      Pickle.program([0x8A, 9] + [UInt8](repeating: 0, count: 9)),
      "at byte 2: an integer has 9 bytes; at most 8 are allowed"
    ),
    (Pickle.program([UInt8(ascii: "X")] + Pickle.little(UInt32.max)), "at byte 2: it ends too early, at byte 8"),
    (Pickle.program([UInt8(ascii: "X")] + Pickle.little(1 as UInt32) + [0xFF]), "at byte 2: a string is not UTF-8"),
    ([0x80, 2] + Array("ccollections".utf8), "at byte 2: it ends too early, at byte 14"),
    (Pickle.program(Pickle.call(Pickle.global("torch", "FloatStorage"), [])), "a storage is called like a function"),
    (
      Pickle.program(Pickle.call(Pickle.global("collections", "OrderedDict"), [Pickle.none])),
      "an OrderedDict is created with arguments"
    ),
    (Pickle.program(Pickle.storage(key: "../0", type: "FloatStorage", count: 1)), "its name must consist of digits"),
    (Pickle.program(Pickle.storage(key: "0", type: "FloatStorage", count: -1)), "its name must consist of digits"),
    (
      Pickle.program(Pickle.tuple([Pickle.text("storage")]) + Array("Q".utf8)),
      "a persistent ID does not name a storage"
    ),
    (Pickle.program(Pickle.none), "it holds None, expected a state dict"),
    (Pickle.program(Pickle.dictionary([])), "its state dict is empty"),
    (Pickle.program(Pickle.dictionary([("epoch", Pickle.integer(1))])), "epoch is an integer, expected a tensor"),
    (Pickle.program(Pickle.dictionary([("state_dict", Pickle.none)])), "state_dict is None, expected a dictionary"),
    (Pickle.program(Array("}NNs".utf8)), "a key of the state dict is None"),
  ])
  func brokenPickles(pickle: [UInt8], reason: String) throws {
    let found = try refusal(pickle: pickle)
    #expect(found.contains(reason), "\(found)")
  }

  /// Ten thousand nested lists, and a list that contains itself.
  @Test func nestingWithoutEnd() throws {
    let deep = [UInt8](repeating: UInt8(ascii: "]"), count: 10_000)
    let closed = [UInt8](repeating: UInt8(ascii: "a"), count: 9_999)
    #expect(try refusal(pickle: Pickle.program(deep + closed)) == "it holds a list, expected a state dict")
    #expect(
      try refusal(pickle: Pickle.program(Array("]q\u{1}h\u{1}a".utf8))) == "it holds a list, expected a state dict")
    let program = Pickle.program([UInt8](repeating: UInt8(ascii: "N"), count: 1 << 22))
    #expect(try refusal(pickle: program).hasPrefix("m/data.pkl has 4194307 bytes, more than the 4194304 allowed"))
  }

  /// Programs that make many values of few bytes: nested tuples, empty containers, marks, entries of the memo, items,
  /// and tensors of 64 sizes.
  @Test(
    arguments: [
      ([], Array("]".utf8), "wait on its stack"), ([], Array("}".utf8), "wait on its stack"),
      ([], Array("(".utf8), "wait on its stack"), ([], Array("N".utf8), "wait on its stack"),
      (LongBytes(")".utf8), [0x85], "more than 48 times its own size"),
      (LongBytes("]".utf8), Array("}a".utf8), "more than 48 times its own size"),
      (LongBytes(manySizes), [0x68, 0, 0x68, 3, 0x52], "more than 48 times its own size"),
    ] as [(LongBytes, [UInt8], String)])
  func manyValuesOfFewBytes(start: LongBytes, repeated: [UInt8], reason: String) throws {
    let program = Pickle.program(start.bytes + Array(repeatElement(repeated, count: 200_000).joined()))
    let found = try refusal(pickle: program)
    #expect(found.contains(reason), "\(found)")
  }

  /// The entries 0 and 3 of the memo: the function that makes tensors, and its arguments, with 64 sizes.
  static let manySizes: [UInt8] = {
    let sizes = Pickle.tuple(Array(repeating: Pickle.integer(1), count: 64)) + [0x71, 2]
    let storage = Pickle.storage(key: "0", type: "FloatStorage", count: 1)
    let arguments = Pickle.tuple([storage, Pickle.integer(0), sizes, [0x68, 2]]) + [0x71, 3]
    return Pickle.global("torch._utils", "_rebuild_tensor_v2") + [0x71, 0] + arguments
  }()

  @Test(
    arguments: [
      ("9", 6, 0, [6], [1], "its storage data/9 is missing"),
      ("0", 7, 0, [6], [1], "its storage claims 7 numbers of F32, data/0 has 24 bytes"),
      ("0", .max, 0, [6], [1], "its storage claims 9223372036854775807 numbers of F32, data/0 has 24 bytes"),
      ("0", 6, 1, [6], [1], "offset 1, sizes [6] and strides [1] reach beyond its storage of 6 numbers"),
      ("0", 6, 6, [], [], "offset 6, sizes [] and strides [] reach beyond its storage of 6 numbers"),
      ("0", 6, 0, [2, 3], [4, 1], "offset 0, sizes [2, 3] and strides [4, 1] reach beyond its storage of 6 numbers"),
      ("0", 6, -1, [1], [1], "a tensor has the offset -1, sizes [1] and strides [1]"),
      ("0", 6, 0, [-1], [1], "a tensor has the offset 0, sizes [-1] and strides [1]"),
      ("0", 6, 0, [2], [-1], "a tensor has the offset 0, sizes [2] and strides [-1]"),
      ("0", 6, 0, [2], [], "a tensor has the offset 0, sizes [2] and strides []"),
      ("0", 6, 0, [1 << 32, 1 << 32], [0, 0], "sizes [4294967296, 4294967296] and strides [0, 0] are too large"),
      ("0", 6, 0, [3], [.max], "sizes [3] and strides [9223372036854775807] are too large"),
      ("0", 6, .max, [2], [1], "sizes [2] and strides [1] are too large"),
    ] as [(String, Int, Int, [Int], [Int], String)])
  func tensorsThatReachTooFar(
    key: String, count: Int, offset: Int, shape: [Int], strides: [Int], reason: String
  ) throws {
    let tensor = Pickle.tensor(key: key, count: count, offset: offset, shape: shape, strides: strides)
    let found = try refusal(pickle: Pickle.program(Pickle.dictionary([("a", tensor)])))
    #expect(found.hasSuffix(reason), "\(found)")
  }

  /// One number that is repeated 2⁶² times takes no memory until it is read.
  @Test func aTensorOfOneNumberManyTimes() throws {
    let tensor = Pickle.tensor(key: "0", type: "LongStorage", count: 1, offset: 0, shape: [1 << 62], strides: [0])
    let file = try PyTorchFile(
      try folder.write(
        "many.pt", TorchArchive.archive(Pickle.program(Pickle.dictionary([("a", tensor)])), [("0", Pickle.little(5))])))
    #expect(try file.shape(of: "a") == Shape(1 << 62))
    let error = #expect(throws: PyTorchError.self) { try file.integers("a") }
    #expect(error?.reason == "tensor a has the shape [4611686018427387904], expected at most 1 numbers")
  }
}
