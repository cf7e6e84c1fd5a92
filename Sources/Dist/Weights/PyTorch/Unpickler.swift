/// Reads the pickle of a PyTorch checkpoint, and builds plain values and descriptions of tensors only.
///
/// A pickle is a program for a small stack machine that can call any Python function. This machine knows only the
/// instructions that torch.save writes for weights and the names that tensors need, and refuses all others, so that no
/// file can do more than describe tensors.
struct Unpickler {
  struct Problem: Error { let reason: String }

  /// The result of the pickle.
  private(set) var root = PickleValue.none
  /// The lists and tuples, by node number.
  private(set) var sequences: [[PickleValue]] = []
  /// The dictionaries, by node number, with their keys in order.
  private(set) var dictionaries: [[(key: PickleValue, value: PickleValue)]] = []
  private(set) var tensors: [PickleTensor] = []
  private var storages: [PickleStorage] = []

  private let bytes: [UInt8]
  private var at = 0
  private var stack: [PickleValue] = []
  /// The height of the stack at each mark.
  private var marks: [Int] = []
  private var memo: [Int: PickleValue] = [:]

  init(_ bytes: [UInt8]) throws(Problem) {
    self.bytes = bytes
    guard try byte() == 0x80, try byte() == 2 else {
      throw Problem(
        reason: "it is not a pickle of protocol 2; save the weights with the default pickle_protocol of torch.save")
    }
    while true {
      let place = at
      let code = try byte()
      if code == UInt8(ascii: ".") { break }
      do throws(Problem) {
        try perform(code)
      } catch { throw Problem(reason: "at byte \(place): \(error.reason)") }
    }
    root = try pop()
  }

  // MARK: - Instructions

  private mutating func perform(_ code: UInt8) throws(Problem) {
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
    case "q": try remember(Int(try little(1)))
    case "r": try remember(Int(try little(4)))
    case "h": try recall(Int(try little(1)))
    case "j": try recall(Int(try little(4)))
    case "(": marks.append(stack.count)
    case "}": stack.append(newDictionary())
    case "]": stack.append(.list(newSequence([])))
    case ")": stack.append(.tuple(newSequence([])))
    case "\u{85}": try makeTuple(1)
    case "\u{86}": try makeTuple(2)
    case "\u{87}": try makeTuple(3)
    case "t":
      let items = try popToMark()
      stack.append(.tuple(newSequence(items)))
    case "a":
      let item = try pop()
      try append([item])
    case "e": try append(try popToMark())
    case "s":
      let value = try pop()
      try set([try pop(), value])
    case "u": try set(try popToMark())
    case "c": try global()
    case "Q": try persistentID()
    case "R": try reduce()
    case "b": try build()
    default:
      throw Problem(
        reason: "torch.save writes no instruction 0x\(String(code, radix: 16, uppercase: true)) for weights")
    }
  }

  private mutating func append(_ items: [PickleValue]) throws(Problem) {
    guard case .list(let node)? = stack.last else {
      throw Problem(reason: "an item is appended to a value that is not a list")
    }
    sequences[node] += items
  }

  private mutating func set(_ items: [PickleValue]) throws(Problem) {
    guard case .dictionary(let node)? = stack.last else {
      throw Problem(reason: "a key is set in a value that is not a dictionary")
    }
    guard items.count.isMultiple(of: 2) else { throw Problem(reason: "a key has no value") }
    for index in stride(from: 0, to: items.count, by: 2) {
      dictionaries[node].append((items[index], items[index + 1]))
    }
  }

  private mutating func global() throws(Problem) {
    let (module, name) = (try line(), try line())
    guard let global = PickleGlobal(module: module, name: name) else {
      throw Problem(
        reason: "it asks for \(module).\(name), but only tensors can be read; in Python, if you trust the file, save "
          + "the weights alone: torch.save(torch.load(FILE, weights_only=False)[\"state_dict\"], NEW)")
    }
    stack.append(.global(global))
  }

  /// Builds a storage from ('storage', type, key, device, count).
  private mutating func persistentID() throws(Problem) {
    guard case .tuple(let node) = try pop(), case let parts = sequences[node], parts.count == 5,
      case .string("storage") = parts[0], case .global(.storage(let type)) = parts[1], case .string(let key) = parts[2],
      case .string = parts[3], case .integer(let count) = parts[4]
    else { throw Problem(reason: "a persistent ID does not name a storage") }
    guard count >= 0, !key.isEmpty, key.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }) else {
      throw Problem(reason: "a storage is named \"\(key)\" and has \(count) numbers; its name must consist of digits")
    }
    storages.append(PickleStorage(type: type, key: key, count: count))
    stack.append(.storage(storages.count - 1))
  }

  private mutating func reduce() throws(Problem) {
    guard case .tuple(let node) = try pop() else { throw Problem(reason: "a call has no tuple of arguments") }
    let arguments = sequences[node]
    guard case .global(let function) = try pop() else { throw Problem(reason: "a call names no function") }
    switch function {
    case .orderedDictionary:
      guard arguments.isEmpty else { throw Problem(reason: "an OrderedDict is created with arguments") }
      stack.append(newDictionary())
    case .rebuildTensor: try rebuildTensor(arguments)
    case .rebuildParameter:
      guard case .tensor? = arguments.first else { throw Problem(reason: "a parameter is created without a tensor") }
      stack.append(arguments[0])
    case .storage: throw Problem(reason: "a storage is called like a function")
    }
  }

  /// Builds a tensor from (storage, offset, sizes, strides, …).
  private mutating func rebuildTensor(_ arguments: [PickleValue]) throws(Problem) {
    guard arguments.count >= 4, case .storage(let storage) = arguments[0], case .integer(let offset) = arguments[1],
      let shape = integers(arguments[2]), let strides = integers(arguments[3])
    else { throw Problem(reason: "a tensor is not created from a storage, an offset, sizes and strides") }
    guard offset >= 0, shape.count == strides.count, (shape + strides).allSatisfy({ $0 >= 0 }) else {
      throw Problem(reason: "a tensor has the offset \(offset), sizes \(shape) and strides \(strides)")
    }
    tensors.append(PickleTensor(storage: storages[storage], offset: offset, shape: shape, strides: strides))
    stack.append(.tensor(tensors.count - 1))
  }

  /// Returns sizes or strides. At most 64 are allowed, because a long tuple that is used many times would fill the
  /// memory.
  private func integers(_ value: PickleValue) -> [Int]? {
    guard case .tuple(let node) = value, sequences[node].count <= 64 else { return nil }
    var numbers: [Int] = []
    for item in sequences[node] {
      guard case .integer(let number) = item else { return nil }
      numbers.append(number)
    }
    return numbers
  }

  /// Drops the attributes of an object. In those of a state dict torch.save stores the modules' versions.
  private mutating func build() throws(Problem) {
    _ = try pop()
    guard case .dictionary? = stack.last else { throw Problem(reason: "attributes are set on a value that has none") }
  }

  // MARK: - The machine

  private mutating func newDictionary() -> PickleValue {
    dictionaries.append([])
    return .dictionary(dictionaries.count - 1)
  }

  private mutating func newSequence(_ items: [PickleValue]) -> Int {
    sequences.append(items)
    return sequences.count - 1
  }

  private mutating func makeTuple(_ count: Int) throws(Problem) {
    var items: [PickleValue] = []
    for _ in 0..<count { items.insert(try pop(), at: 0) }
    stack.append(.tuple(newSequence(items)))
  }

  private mutating func pop() throws(Problem) -> PickleValue {
    guard stack.count > (marks.last ?? 0), let value = stack.popLast() else {
      throw Problem(reason: "the stack is empty")
    }
    return value
  }

  private mutating func popToMark() throws(Problem) -> [PickleValue] {
    guard let mark = marks.popLast() else { throw Problem(reason: "the stack has no mark") }
    let items = Array(stack[mark...])
    stack.removeSubrange(mark...)
    return items
  }

  private mutating func remember(_ key: Int) throws(Problem) {
    guard let value = stack.last else { throw Problem(reason: "the stack is empty") }
    memo[key] = value
  }

  private mutating func recall(_ key: Int) throws(Problem) {
    guard let value = memo[key] else { throw Problem(reason: "the memo has no entry \(key)") }
    stack.append(value)
  }

  // MARK: - Bytes

  private mutating func byte() throws(Problem) -> UInt8 { UInt8(try little(1)) }

  private mutating func little(_ count: Int) throws(Problem) -> UInt64 {
    guard bytes.count - at >= count else { throw Problem(reason: "it ends too early, at byte \(bytes.count)") }
    defer { at += count }
    return bytes.little(count, at: at)
  }

  /// Reads an integer of up to eight bytes in two's complement.
  private mutating func longInteger() throws(Problem) -> Int {
    let count = Int(try byte())
    guard count <= 8 else { throw Problem(reason: "an integer has \(count) bytes; at most 8 are allowed") }
    guard count > 0 else { return 0 }
    let unused = 64 - 8 * count
    return Int(Int64(bitPattern: try little(count) << UInt64(unused)) >> Int64(unused))
  }

  private mutating func text(count: Int) throws(Problem) -> String {
    guard bytes.count - at >= count else { throw Problem(reason: "it ends too early, at byte \(bytes.count)") }
    defer { at += count }
    guard let text = String(validating: bytes[at..<at + count], as: UTF8.self) else {
      throw Problem(reason: "a string is not UTF-8")
    }
    return text
  }

  /// Reads the text up to the end of the line.
  private mutating func line() throws(Problem) -> String {
    guard let end = bytes[at...].firstIndex(of: UInt8(ascii: "\n")) else {
      throw Problem(reason: "it ends too early, at byte \(bytes.count)")
    }
    let text = try text(count: end - at)
    at = end + 1
    return text
  }
}

// MARK: - Values

/// A value that the unpickler can build: a plain value, a container, or a tensor whose numbers are yet to be read.
///
/// A container is the number of a node in the unpickler's lists, so that values of any depth, or values that contain
/// themselves, need no recursion.
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
  case storage(Int)
  case tensor(Int)

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
enum PickleGlobal: Hashable {
  case orderedDictionary
  case rebuildTensor
  case rebuildParameter
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
struct PickleStorage: Equatable {
  let type: SafetensorsType
  /// The entry's name in the folder of data.
  let key: String
  let count: Int
}

/// A view of a storage. Offset and strides count numbers, not bytes.
struct PickleTensor: Equatable {
  let storage: PickleStorage
  let offset: Int
  let shape: [Int]
  let strides: [Int]
}
