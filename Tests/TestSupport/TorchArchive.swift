/// PyTorch checkpoint files for tests, assembled byte by byte in the layout of torch.save.
public enum TorchArchive {
  /// A tensor to store, with the bytes of its storage in row-major order.
  public struct Tensor {
    public let name: String
    let type: String
    let shape: [Int]
    let bytes: [UInt8]

    public init(_ name: String, _ shape: [Int], type: String = "FloatStorage", bytes: [UInt8]) {
      self.name = name
      self.type = type
      self.shape = shape
      self.bytes = bytes
    }

    public init(_ name: String, _ shape: [Int], _ values: [Float]) {
      self.init(name, shape, bytes: values.flatMap { Pickle.little($0.bitPattern) })
    }

    public init(_ name: String, _ shape: [Int], integers: [Int64]) {
      self.init(name, shape, type: "LongStorage", bytes: integers.flatMap { Pickle.little($0) })
    }
  }

  /// Returns a checkpoint of these tensors: alone, or under `state_dict` beside other values as training runs save
  /// them.
  public static func checkpoint(_ tensors: [Tensor], training: Bool = false, wide: Bool = false) -> [UInt8] {
    let size = ["LongStorage": 8, "DoubleStorage": 8, "HalfStorage": 2, "BFloat16Storage": 2]
    let weights = Pickle.orderedDictionary(
      tensors.enumerated().map { index, tensor in
        let strides = tensor.shape.indices.map { tensor.shape[($0 + 1)...].reduce(1, *) }
        return (
          tensor.name,
          Pickle.tensor(
            key: "\(index)", type: tensor.type, count: tensor.bytes.count / (size[tensor.type] ?? 4), offset: 0,
            shape: tensor.shape, strides: strides)
        )
      })
    let root =
      !training
      ? weights
      : Pickle.dictionary([
        ("epoch", Pickle.integer(3)), ("name", Pickle.text("run")), ("rate", Pickle.number(0.1)),
        ("state_dict", weights), ("optimizer", Pickle.dictionary([("state", Pickle.list([Pickle.none]))])),
      ])
    return archive(
      Pickle.program(root), tensors.enumerated().map { ("\($0)", $1.bytes) }, wide: wide)
  }

  /// Returns the archive of a pickle and its storages.
  public static func archive(_ pickle: [UInt8], _ storages: [(String, [UInt8])] = [], wide: Bool = false) -> [UInt8] {
    zip(
      [("m/data.pkl", pickle), ("m/byteorder", Array("little".utf8))] + storages.map { ("m/data/\($0.0)", $0.1) }
        + [("m/version", Array("3\n".utf8))], wide: wide)
  }

  /// Returns a zip archive of stored entries. If `wide` is true, it has the records of archives above 4 GiB.
  public static func zip(
    _ entries: [(name: String, bytes: [UInt8])], method: UInt16 = 0, flags: UInt16 = 0x808, wide: Bool = false
  ) -> [UInt8] {
    var file: [UInt8] = []
    var table: [UInt8] = []
    for (name, bytes) in entries {
      let (start, size) = (file.count, UInt32(bytes.count))
      // As in torch's files, the sizes are zero here and are given in the table.
      file += Pickle.little(0x0403_4B50 as UInt32) + Pickle.little(0 as UInt16) + Pickle.little(flags)
      file += Pickle.little(method) + [UInt8](repeating: 0, count: 16) + Pickle.little(UInt16(name.utf8.count))
      file += [7, 0] + Array(name.utf8) + [0x46, 0x42, 3, 0, 0x5A, 0x5A, 0x5A] + bytes
      table += Pickle.little(0x0201_4B50 as UInt32) + [UInt8](repeating: 0, count: 4) + Pickle.little(flags)
      table += Pickle.little(method) + [UInt8](repeating: 0, count: 8)
      table += wide ? [UInt8](repeating: 0xFF, count: 8) : Pickle.little(size) + Pickle.little(size)
      table += Pickle.little(UInt16(name.utf8.count)) + Pickle.little(UInt16(wide ? 28 : 0))
      table += [UInt8](repeating: 0, count: 10)
      table += wide ? [UInt8](repeating: 0xFF, count: 4) : Pickle.little(UInt32(start))
      table += Array(name.utf8)
      if wide {
        table += [1, 0, 24, 0] + Pickle.little(UInt64(size)) + Pickle.little(UInt64(size))
        table += Pickle.little(UInt64(start))
      }
    }
    let (start, count) = (file.count, UInt16(entries.count))
    file += table
    if wide {
      let record = file.count
      file += Pickle.little(0x0606_4B50 as UInt32) + Pickle.little(44 as UInt64) + [UInt8](repeating: 0, count: 12)
      file += Pickle.little(UInt64(count)) + Pickle.little(UInt64(count)) + Pickle.little(UInt64(table.count))
      file += Pickle.little(UInt64(start))
      file += Pickle.little(0x0706_4B50 as UInt32) + [0, 0, 0, 0] + Pickle.little(UInt64(record)) + [1, 0, 0, 0]
    }
    file += Pickle.little(0x0605_4B50 as UInt32) + [0, 0, 0, 0] + Pickle.little(wide ? 0xFFFF : count)
    file += Pickle.little(wide ? 0xFFFF : count) + Pickle.little(UInt32(table.count)) + Pickle.little(UInt32(start))
    return file + [0, 0]
  }
}

/// Builds parts of pickles of protocol 2. Each part leaves one value on the stack.
public enum Pickle {
  public static func little<I: FixedWidthInteger>(_ value: I) -> [UInt8] {
    (0..<I.bitWidth / 8).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) }
  }

  public static func program(_ body: [UInt8]) -> [UInt8] { [0x80, 2] + body + [UInt8(ascii: ".")] }

  public static let none: [UInt8] = [UInt8(ascii: "N")]
  public static func number(_ value: Double) -> [UInt8] { [UInt8(ascii: "G")] + little(value.bitPattern).reversed() }
  /// Returns the shortest encoding of an integer.
  public static func integer(_ value: Int) -> [UInt8] {
    switch value {
    case 0..<256: [UInt8(ascii: "K"), UInt8(value)]
    case 256..<65536: [UInt8(ascii: "M")] + little(UInt16(value))
    case Int(Int32.min)...Int(Int32.max): [UInt8(ascii: "J")] + little(Int32(value))
    default: [0x8A, 8] + little(value)
    }
  }

  public static func text(_ text: String) -> [UInt8] {
    [UInt8(ascii: "X")] + little(UInt32(text.utf8.count)) + Array(text.utf8)
  }

  public static func global(_ module: String, _ name: String) -> [UInt8] { Array("c\(module)\n\(name)\n".utf8) }

  public static func tuple(_ items: [[UInt8]]) -> [UInt8] { Array("(".utf8) + items.joined() + Array("t".utf8) }
  public static func list(_ items: [[UInt8]]) -> [UInt8] { Array("](".utf8) + items.joined() + Array("e".utf8) }
  public static func call(_ function: [UInt8], _ arguments: [[UInt8]]) -> [UInt8] {
    function + tuple(arguments) + Array("R".utf8)
  }

  public static func dictionary(_ members: [(String, [UInt8])]) -> [UInt8] {
    Array("}(".utf8) + members.flatMap { text($0) + $1 } + Array("u".utf8)
  }

  /// Returns an ordered dictionary with the attribute that the state dict of a module has.
  public static func orderedDictionary(_ members: [(String, [UInt8])]) -> [UInt8] {
    call(global("collections", "OrderedDict"), []) + Array("(".utf8) + members.flatMap { text($0) + $1 }
      + Array("u".utf8) + dictionary([("_metadata", dictionary([("", integer(1))]))]) + Array("b".utf8)
  }

  public static func storage(key: String, type: String, count: Int) -> [UInt8] {
    tuple([text("storage"), global("torch", type), text(key), text("cpu"), integer(count)]) + Array("Q".utf8)
  }

  public static func tensor(
    key: String, type: String = "FloatStorage", count: Int, offset: Int, shape: [Int], strides: [Int]
  ) -> [UInt8] {
    call(
      global("torch._utils", "_rebuild_tensor_v2"),
      [
        storage(key: key, type: type, count: count), integer(offset), tuple(shape.map(integer)),
        tuple(strides.map(integer)), [0x89], call(global("collections", "OrderedDict"), []),
      ])
  }
}
