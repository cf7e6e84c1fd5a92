internal import Tensor

/// Reads the pickle of a PyTorch checkpoint, and builds plain values and descriptions of tensors only.
///
/// A pickle is a program for a small stack machine that can call any Python function. This machine knows only the
/// instructions that torch.save writes for weights and the names that tensors need, and refuses all others, so that no
/// file can do more than describe tensors.
struct Unpickler {
  struct Problem: Error {
    let reason: String
    init(_ reason: String) { self.reason = reason }
  }

  /// The result of the pickle.
  private(set) var root = PickleValue.none
  /// The lists and tuples, by node number.
  private var sequences: [[PickleValue]] = []
  /// The dictionaries, by node number, with their keys in order.
  private var dictionaries: [[(key: PickleValue, value: PickleValue)]] = []

  private let bytes: [UInt8]
  private var at = 0
  private var stack: [PickleValue] = []
  /// The height of the stack at each mark.
  private var marks: [Int] = []
  private var memo: [UInt64: PickleValue] = [:]
  /// The bytes that values outside of the stack may still take.
  private var room: Int
  /// The limit on these bytes for each of the pickle's own: those of torch.save need about 20, and a few for a start.
  private static let (growth, start) = (48, 1 << 20)
  /// The limit on the values on the stack, and on its marks: Python writes the items of containers a thousand at a
  /// time.
  private static let highest = 1 << 16

  init(_ bytes: [UInt8]) throws(Problem) {
    self.bytes = bytes
    room = Self.start + Self.growth * bytes.count
    guard try little(1) == 0x80, try little(1) == 2 else {
      throw Problem("it is not a pickle of protocol 2; save the weights with the default pickle_protocol of torch.save")
    }
    while true {
      let place = at
      let code = UInt8(try little(1))
      if code == UInt8(ascii: ".") { break }
      do throws(Problem) { try perform(code) } catch { throw Problem("at byte \(place): \(error.reason)") }
    }
    root = try pop()
  }

  /// Returns the tensors of the state dict, which is the result of the pickle or its value under `state_dict`.
  func stateDict() throws(Problem) -> [(name: String, tensor: PickleTensor)] {
    guard case .dictionary(let top) = root else { throw Problem("it holds \(root.kind), expected a state dict") }
    var node = top
    for (key, value) in dictionaries[top] {
      guard case .string("state_dict") = key else { continue }
      guard case .dictionary(let inner) = value else {
        throw Problem("state_dict is \(value.kind), expected a dictionary")
      }
      node = inner
    }
    var found: [(name: String, tensor: PickleTensor)] = []
    var names: Set<String> = []
    for (key, value) in dictionaries[node] {
      guard case .string(let name) = key else { throw Problem("a key of the state dict is \(key.kind)") }
      guard case .tensor(let tensor) = value else {
        if PyTorchFile.sizes.contains(where: { name == $0 || name.hasSuffix(".\($0)") }) { continue }
        throw Problem(
          "\(name) is \(value.kind), expected a tensor; a state dict may be the whole file or stand under state_dict")
      }
      guard names.insert(name).inserted else { throw Problem("the state dict has \(name) twice") }
      found.append((name, tensor))
    }
    guard !found.isEmpty else { throw Problem("its state dict is empty") }
    return found
  }

  /// Counts bytes of memory that a value takes. Throws if the pickle would take far more than those of weights do.
  private mutating func take(_ bytes: Int) throws(Problem) {
    room -= bytes
    guard room >= 0 else { throw Problem("its values would take more than \(Self.growth) times its own size") }
  }

  private mutating func perform(_ code: UInt8) throws(Problem) {
    guard max(stack.count, marks.count) < Self.highest else {
      throw Problem("\(Self.highest) values wait on its stack; torch.save puts items into their container before")
    }
    switch Unicode.Scalar(code) {
    case "N": stack.append(.none)
    case "\u{88}": stack.append(.bool(true))
    case "\u{89}": stack.append(.bool(false))
    case "J": stack.append(.integer(Int(Int32(truncatingIfNeeded: try little(4)))))
    case "K": stack.append(.integer(Int(try little(1))))
    case "M": stack.append(.integer(Int(try little(2))))
    case "\u{8A}": stack.append(.integer(try longInteger()))
    case "G": stack.append(.number(Double(bitPattern: try little(8).byteSwapped)))
    case "X": stack.append(.string(try text(count: Int(try little(4)))))
    case "q", "r":
      let key = try little(code == UInt8(ascii: "q") ? 1 : 4)
      guard let value = stack.last else { throw Problem("the stack is empty") }
      try take(64)
      memo[key] = value
    case "h", "j":
      let key = try little(code == UInt8(ascii: "h") ? 1 : 4)
      guard let value = memo[key] else { throw Problem("the memo has no entry \(key)") }
      stack.append(value)
    case "(": marks.append(stack.count)
    case "}": stack.append(try newDictionary())
    case "]": stack.append(.list(try newSequence([])))
    case ")": stack.append(.tuple(try newSequence([])))
    case "\u{85}"..."\u{87}": stack.append(.tuple(try newSequence(try pop(Int(code) - 0x84))))
    case "t": stack.append(.tuple(try newSequence(try popToMark())))
    case "a": try append([try pop()])
    case "e": try append(try popToMark())
    case "s": try set(try pop(2))
    case "u": try set(try popToMark())
    case "c": try global()
    case "Q": try persistentID()
    case "R": try reduce()
    case "b":
      // In the attributes of a state dict torch.save stores the modules' versions, which are dropped.
      _ = try pop()
      guard case .dictionary? = stack.last else { throw Problem("attributes are set on a value that has none") }
    default:
      throw Problem("torch.save writes no instruction 0x\(String(code, radix: 16, uppercase: true)) for weights")
    }
  }

  private mutating func append(_ items: [PickleValue]) throws(Problem) {
    guard case .list(let node)? = stack.last else { throw Problem("an item is appended to a value that is not a list") }
    try take(32 * items.count)
    sequences[node] += items
  }

  private mutating func set(_ items: [PickleValue]) throws(Problem) {
    guard case .dictionary(let node)? = stack.last else {
      throw Problem("a key is set in a value that is not a dictionary")
    }
    guard items.count.isMultiple(of: 2) else { throw Problem("a key has no value") }
    try take(32 * items.count)
    for index in stride(from: 0, to: items.count, by: 2) { dictionaries[node].append((items[index], items[index + 1])) }
  }

  private mutating func global() throws(Problem) {
    let (module, name) = (try line(), try line())
    guard let global = PickleGlobal(module: module, name: name) else {
      throw Problem(
        "it asks for \(module).\(name), but only tensors can be read; in Python, if you trust the file, save the "
          + "weights alone: torch.save(torch.load(FILE, weights_only=False)[\"state_dict\"], NEW)")
    }
    stack.append(.global(global))
  }

  /// Builds a storage from ('storage', type, key, device, count).
  private mutating func persistentID() throws(Problem) {
    guard case .tuple(let node) = try pop(), case let parts = sequences[node], parts.count == 5,
      case .string("storage") = parts[0], case .global(.storage(let type)) = parts[1], case .string(let key) = parts[2],
      case .string = parts[3], case .integer(let count) = parts[4]
    else { throw Problem("a persistent ID does not name a storage") }
    guard count >= 0, !key.isEmpty, key.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }) else {
      throw Problem("a storage is named \"\(key)\" and has \(count) numbers; its name must consist of digits")
    }
    try take(128)
    stack.append(.storage(PickleStorage(type: type, key: key, count: count)))
  }

  private mutating func reduce() throws(Problem) {
    guard case .tuple(let node) = try pop() else { throw Problem("a call has no tuple of arguments") }
    let arguments = sequences[node]
    guard case .global(let function) = try pop() else { throw Problem("a call names no function") }
    switch function {
    case .orderedDictionary:
      guard arguments.isEmpty else { throw Problem("an OrderedDict is created with arguments") }
      stack.append(try newDictionary())
    case .rebuildTensor: try rebuildTensor(arguments)
    case .rebuildParameter:
      guard case .tensor? = arguments.first else { throw Problem("a parameter is created without a tensor") }
      stack.append(arguments[0])
    case .storage: throw Problem("a storage is called like a function")
    }
  }

  /// Builds a tensor from (storage, offset, sizes, strides, …).
  private mutating func rebuildTensor(_ arguments: [PickleValue]) throws(Problem) {
    guard arguments.count >= 4, case .storage(let storage) = arguments[0], case .integer(let offset) = arguments[1],
      let shape = integers(arguments[2]), let strides = integers(arguments[3])
    else { throw Problem("a tensor is not created from a storage, an offset, sizes and strides") }
    guard offset >= 0, shape.count == strides.count, (shape + strides).allSatisfy({ $0 >= 0 }) else {
      throw Problem("a tensor has the offset \(offset), sizes \(shape) and strides \(strides)")
    }
    try take(192 + 16 * shape.count)
    stack.append(.tensor(PickleTensor(storage: storage, offset: offset, shape: shape, strides: strides)))
  }

  /// Returns sizes or strides, at most 64: a long tuple that is used many times would fill the memory.
  private func integers(_ value: PickleValue) -> [Int]? {
    guard case .tuple(let node) = value, sequences[node].count <= 64 else { return nil }
    var numbers: [Int] = []
    for item in sequences[node] {
      guard case .integer(let number) = item else { return nil }
      numbers.append(number)
    }
    return numbers
  }

  private mutating func newDictionary() throws(Problem) -> PickleValue {
    try take(80)
    dictionaries.append([])
    return .dictionary(dictionaries.count - 1)
  }

  private mutating func newSequence(_ items: [PickleValue]) throws(Problem) -> Int {
    try take(64 + 24 * items.count)
    sequences.append(items)
    return sequences.count - 1
  }

  private mutating func pop() throws(Problem) -> PickleValue { try pop(1)[0] }

  /// Removes `count` values from the stack, and returns them from the lowest to the top.
  private mutating func pop(_ count: Int) throws(Problem) -> [PickleValue] {
    guard stack.count - count >= marks.last ?? 0 else { throw Problem("the stack is empty") }
    defer { stack.removeLast(count) }
    return Array(stack.suffix(count))
  }

  private mutating func popToMark() throws(Problem) -> [PickleValue] {
    guard let mark = marks.popLast() else { throw Problem("the stack has no mark") }
    return try pop(stack.count - mark)
  }

  /// Moves past `count` bytes, and returns where they begin.
  private mutating func skip(_ count: Int) throws(Problem) -> Int {
    guard bytes.count - at >= count else { throw Problem("it ends too early, at byte \(bytes.count)") }
    defer { at += count }
    return at
  }

  private mutating func little(_ count: Int) throws(Problem) -> UInt64 { bytes.little(count, at: try skip(count)) }

  /// Reads an integer of up to eight bytes in two's complement.
  private mutating func longInteger() throws(Problem) -> Int {
    let count = Int(try little(1))
    guard count <= 8 else { throw Problem("an integer has \(count) bytes; at most 8 are allowed") }
    guard count > 0 else { return 0 }
    let unused = 64 - 8 * count
    return Int(Int64(bitPattern: try little(count) << UInt64(unused)) >> Int64(unused))
  }

  private mutating func text(count: Int) throws(Problem) -> String {
    let start = try skip(count)
    try take(32 + count)
    if let text = String(validating: bytes[start..<at], as: UTF8.self) { return text }
    throw Problem("a string is not UTF-8")
  }

  /// Reads the text up to the end of the line.
  private mutating func line() throws(Problem) -> String {
    guard let end = bytes[at...].firstIndex(of: UInt8(ascii: "\n")) else {
      throw Problem("it ends too early, at byte \(bytes.count)")
    }
    let text = try text(count: end - at)
    at = end + 1
    return text
  }
}

/// A value that the unpickler can build: a plain value, a container, or a tensor whose numbers are yet to be read.
/// Containers are numbers of nodes, so that values of any depth, or that contain themselves, need no recursion.
enum PickleValue {
  case none
  case bool(Bool)
  case integer(Int)
  case number(Double)
  case string(String)
  case list(Int)
  case tuple(Int)
  case dictionary(Int)
  case global(PickleGlobal)
  indirect case storage(PickleStorage)
  indirect case tensor(PickleTensor)

  /// The kind of the value with its article, for messages.
  var kind: String {
    switch self {
    case .none: "None"
    case .bool: "a boolean"
    case .integer: "an integer"
    case .number: "a number"
    case .string: "a string"
    case .list: "a list"
    case .tuple: "a tuple"
    case .dictionary: "a dictionary"
    case .global: "a Python name"
    case .storage: "a storage"
    case .tensor: "a tensor"
    }
  }
}

/// The Python names that a pickle of weights may use.
enum PickleGlobal {
  case orderedDictionary, rebuildTensor, rebuildParameter
  case storage(SafetensorsType)

  init?(module: String, name: String) {
    switch (module, name) {
    case ("collections", "OrderedDict"): self = .orderedDictionary
    case ("torch._utils", "_rebuild_tensor_v2"): self = .rebuildTensor
    case ("torch._utils", "_rebuild_parameter"): self = .rebuildParameter
    case ("torch", _):
      guard let type = Self.storages[name] else { return nil }
      self = .storage(type)
    default: return nil
    }
  }

  private static let storages: [String: SafetensorsType] = [
    "DoubleStorage": .float64, "FloatStorage": .float32, "HalfStorage": .float16, "BFloat16Storage": .bfloat16,
    "LongStorage": .int64, "IntStorage": .int32, "ShortStorage": .int16, "CharStorage": .int8,
    "ByteStorage": .uint8, "BoolStorage": .bool,
  ]
}

/// An entry of the archive with numbers, of which tensors are views.
struct PickleStorage {
  let type: SafetensorsType
  /// The entry's name in the folder of data.
  let key: String
  let count: Int
}

/// A view of a storage. Offset and strides count numbers, not bytes.
struct PickleTensor {
  let storage: PickleStorage
  let offset: Int
  let shape: [Int]
  let strides: [Int]
}
