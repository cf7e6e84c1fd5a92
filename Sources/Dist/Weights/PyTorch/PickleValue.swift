/// What an unpickler of weights can build: plain values, containers, and tensors that are yet to be read.
///
/// Containers are numbers of nodes in the unpickler's list, so that values nested a million deep, or within themselves,
/// are as flat as any.
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

  /// What it is, for messages.
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
    case .global: "a name of Python's"
    case .storage: "a storage"
    case .tensor: "a tensor"
    }
  }
}

/// The names of Python's that a pickle of weights may use.
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

/// Numbers in an entry of the archive, of which tensors are views.
struct PickleStorage: Equatable {
  let type: SafetensorsType
  /// The entry's name in the folder of data.
  let key: String
  let count: Int
}

/// A view of a storage, in numbers and not in bytes.
struct PickleTensor: Equatable {
  let storage: PickleStorage
  let offset: Int
  let shape: [Int]
  let strides: [Int]
}
