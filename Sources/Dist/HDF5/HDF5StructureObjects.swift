// Objects: a header of version 1 is a list of messages, which may continue elsewhere in the file.

/// The types of messages in headers of groups and data sets.
private enum Message: UInt64 {
  case nothing = 0
  case space = 1
  case links = 2
  case type = 3
  case fill = 5
  case link = 6
  case layout = 8
  case group = 10
  case attribute = 12
  case continuation = 16
  case table = 17
  case modified = 18

  /// The name in errors, with its article.
  var name: String {
    switch self {
    case .nothing: "an empty message"
    case .space: "a shape"
    case .links: "a group's link information"
    case .type: "an element type"
    case .fill: "a fill value"
    case .link: "a link"
    case .layout: "a layout"
    case .group: "a group's information"
    case .attribute: "an attribute"
    case .continuation: "a header's continuation"
    case .table: "the place of a symbol table"
    case .modified: "a time of modification"
    }
  }
}

extension HDF5Structure {
  /// Checks the object whose header's address is in `field` of `link`.
  mutating func object(_ link: HDF5Block, _ field: Int, isGroup: Bool?) throws(HDF5Error) {
    let header = try block("an object's header", 16, link, field)
    // The version; the number of links to the object; the gap before the messages.
    try header.expect([1, 0], at: 0)
    try header.expect([1, 0, 0, 0], at: 4)
    try header.expect([0, 0, 0, 0], at: 12)
    var found: [Message: HDF5Block] = [:]
    var (links, attributes) = (Set<String>(), Set<String>())
    var count: UInt64 = 0
    var chunks = [try block("a header", header.number(8, 4), at: address(of: header) + 16, header, 8)]
    while let chunk = chunks.popLast() {
      var at = 0
      while at < chunk.count {
        let (type, message) = try Self.message(at, of: chunk)
        at += 8 + message.count
        count += 1
        switch type {
        case .nothing: break
        case .modified:
          try message.expect(count: 8)
          try message.expect([1, 0, 0, 0], at: 0)
        case .continuation:
          try message.expect(count: 16)
          chunks.append(try block(message.what, message.number(8), message, 0))
        case .link:
          let name = try self.link(message, isPadded: true)
          try message.require(links.insert(name).inserted, at: 0, "has the name \(name) of another one")
        case .attribute:
          let name = try attribute(message)
          try message.require(attributes.insert(name).inserted, at: 0, "has the name \(name) of another one")
        default:
          try message.require(found.updateValue(message, forKey: type) == nil, at: 0, "is the object's second one")
        }
      }
    }
    try header.expect(count, "number of messages", at: 2, 2)

    let (types, hasLinks) = (Set(found.keys), !links.isEmpty)
    if isGroup != false, types == [.links, .group], let place = found[.links] {
      try found[.group]?.expect([0, 0, 0, 0, 0, 0, 0, 0], at: 0)
      try manyLinks(place, isEmpty: !hasLinks)
    } else if isGroup != false, types == [.table], !hasLinks, let place = found[.table] {
      try symbolTable(place)
    } else if isGroup != true, !hasLinks, types == [.space, .type, .fill, .layout],
      let space = found[.space], let type = found[.type], let fill = found[.fill], let layout = found[.layout]
    {
      try dataset(space, type, fill, layout)
    } else {
      let names = types.map(\.name).sorted().joined(separator: ", ")
      let kind = isGroup.map { $0 ? "a group" : "a contiguous data set" } ?? "a group or of a contiguous data set"
      throw header.refusal(0, "has the messages [\(names)], expected those of \(kind)")
    }
  }

  /// Returns the message that begins at `at`.
  private static func message(_ at: Int, of chunk: HDF5Block) throws(HDF5Error) -> (Message, HDF5Block) {
    let rest = chunk.count - at - 8
    try chunk.require(rest >= 0, at: at, "ends within a message")
    guard let type = Message(rawValue: chunk.number(at, 2)) else {
      throw chunk.refusal(at, "has a message of type \(chunk.number(at, 2)), which no file of ours has")
    }
    let size = Int(chunk.number(at + 2, 2))
    try chunk.require(
      size % 8 == 0 && size <= rest, at: at + 2,
      "has a message of \(size) bytes, expected a multiple of 8 up to \(rest)")
    // The only flag that we write says that the message never changes.
    let flags = chunk.number(at + 4, 1)
    try chunk.require(
      flags == 0 || (flags == 1 && type != .nothing), at: at + 4, "has a message of flags \(flags), expected 0 or 1")
    try chunk.expect([0, 0, 0], at: at + 5)
    return (type, chunk.part(type.name, at + 8, size))
  }

  /// The fill values without a value: space is allocated when the data set is made, and not filled; or when it is
  /// written, and filled if there is a value, or always, as it is for strings of any length.
  private static let fills: [[UInt8]] = [
    [2, 1, 1, 1, 0, 0, 0, 0], [2, 2, 2, 1, 0, 0, 0, 0], [2, 2, 0, 1, 0, 0, 0, 0],
  ]

  /// Checks a contiguous data set, whose elements must lie in the file and have the size that its shape gives.
  private mutating func dataset(
    _ space: HDF5Block, _ type: HDF5Block, _ fill: HDF5Block, _ layout: HDF5Block
  ) throws(HDF5Error) {
    try layout.require(
      layout.count > 1 && layout.bytes[1] == 1, at: 1, "is compact, chunked or virtual, expected a contiguous one")
    try layout.expect(count: 24)
    try layout.expect([3], at: 0)
    try layout.expectZeros(from: 18)
    if !Self.fills.contains(fill.bytes) { try fill.expect(Self.fills[0], at: 0) }
    let (elementSize, isText) = try element(type)

    try space.require(space.count >= 8, at: 0, "has \(space.count) bytes, expected at least 8")
    let rank = Int(space.bytes[1])
    try space.require(rank <= 32, at: 1, "has \(rank) dimensions, expected at most 32")
    try space.expect(count: 8 + 16 * rank)
    try space.expect([1, UInt8(rank), rank == 0 ? 0 : 1, 0, 0, 0, 0, 0], at: 0)
    for index in 0..<rank {
      try space.expect(space.number(8 + 8 * index), "greatest size", at: 8 + 8 * (rank + index))
    }
    let sizes = (0..<rank).compactMap { Int(exactly: space.number(8 + 8 * $0)) }
    guard sizes.count == rank, let bytes = sizes.product(elementSize) else {
      throw space.refusal(8, "has sizes whose product is beyond 64 bits")
    }
    try layout.expect(UInt64(bytes), "size in bytes", at: 10)
    if bytes == 0 {
      try layout.expect(Self.nowhere, "address", at: 2)
    } else {
      let start = try own(layout.number(2), UInt64(bytes), "numbers", layout, 2)
      if isText { try textPlaces(start, bytes) }
    }
  }

  /// Returns the bytes of an element of this type, a number or a string, and whether it is a string of any length,
  /// which lies elsewhere.
  private func element(_ type: HDF5Block) throws(HDF5Error) -> (size: Int, isText: Bool) {
    // A string of fixed length, ended or filled up by zeros, in ASCII or UTF-8.
    if type.count == 8, type.bytes[0] == 0x13, type.bytes[1] & ~0x11 == 0 {
      try type.expect([0, 0], at: 2)
      let size = Int(type.number(4, 4))
      try type.require(size > 0, at: 4, "has no bytes, expected at least 1")
      return (size, false)
    }
    // All others end with four bytes of padding.
    let header = Array(type.bytes.dropLast(4))
    let isText = header == HDF5Type.textHeader || header == HDF5Type.asciiTextHeader
    guard let size = isText ? 16 : HDF5Type.byHeader[header]?.size else {
      let names = HDF5Type.allCases.map(\.rawValue).joined(separator: ", ")
      throw type.refusal(0, "is no string and none of \(names), little-endian")
    }
    try type.expectZeros(from: type.count - 4)
    return (size, isText)
  }

  /// Checks the `count` bytes from an offset in the file, which are the places of strings.
  private mutating func textPlaces(_ start: Int, _ count: Int) throws(HDF5Error) {
    let piece = 1 << 16
    for first in stride(from: 0, to: count, by: piece) {
      let places = try bytes("an element", start + first, min(piece, count - first))
      for at in stride(from: 0, to: places.count, by: 16) { try text(places, at) }
    }
  }

  /// Checks an attribute, which is one number or one string, and returns its name.
  private mutating func attribute(_ message: HDF5Block) throws(HDF5Error) -> String {
    func padded(_ count: Int) -> Int { (count + 7) & ~7 }
    try message.require(message.count >= 8, at: 0, "has \(message.count) bytes, expected at least 8")
    try message.expect([1, 0], at: 0)
    let (nameSize, typeSize) = (Int(message.number(2, 2)), Int(message.number(4, 2)))
    try message.expect(8, "size of its shape", at: 6, 2)
    let typeStart = 8 + padded(nameSize)
    let shapeStart = typeStart + padded(typeSize)
    let valueStart = shapeStart + 8
    try message.require(
      nameSize > 1 && valueStart <= message.count, at: 2,
      "has a name of \(nameSize) and a type of \(typeSize) bytes, expected both within its \(message.count) bytes")
    let name = try message.name(8, nameSize - 1)
    try message.expect([UInt8](repeating: 0, count: typeStart - 8 - nameSize + 1), at: 8 + nameSize - 1)
    try message.expect([UInt8](repeating: 0, count: padded(typeSize) - typeSize), at: typeStart + typeSize)
    try message.expect([1, 0, 0, 0, 0, 0, 0, 0], at: shapeStart)
    let type = Array(message.bytes[typeStart..<typeStart + typeSize])
    if type == HDF5Type.textHeader {
      try message.expect(count: valueStart + 16)
      try text(message, valueStart)
    } else {
      try message.require(HDF5Type.byHeader[type] != nil, at: typeStart, "is neither a number nor a string")
      try message.expect(count: valueStart + 8)
    }
    return name
  }

  /// Checks the place of a string: its length, and its number in a collection of strings, which others share.
  private mutating func text(_ message: HDF5Block, _ at: Int) throws(HDF5Error) {
    let (length, address, number) = (message.number(at, 4), message.number(at + 4), message.number(at + 12, 4))
    // A string that was never written.
    if length == 0, address == 0, number == 0 { return }
    if texts[address] == nil { texts[address] = try collection(message, at + 4) }
    guard let stored = texts[address]?[number] else {
      throw message.refusal(at + 12, "is string \(number) of the collection at address \(address), which has none")
    }
    try message.expect(stored, "length", at: at, 4)
  }

  /// Checks a collection of strings (a global heap), and returns their lengths by their numbers.
  private mutating func collection(_ link: HDF5Block, _ field: Int) throws(HDF5Error) -> [UInt64: UInt64] {
    let what = "a collection of strings"
    let head = try block(what, 16, link, field)
    try head.expect([0x47, 0x43, 0x4F, 0x4C, 1, 0, 0, 0], at: 0)
    let size = head.number(8)
    try head.require(size >= 4096, at: 8, "has \(size) bytes, expected at least 4096")
    var at = try own(address(of: head) + 16, size - 16, what, head, 8)
    let end = head.start + Int(size)
    var lengths: [UInt64: UInt64] = [:]
    while end - at >= 16 {
      // The number; the count of references, of which none is kept; the length.
      let string = try bytes(what, at, 16)
      let (number, length) = (string.number(0, 2), string.number(8))
      try string.expect([0, 0, 0, 0, 0, 0], at: 2)
      // Number 0 is the free rest.
      guard number > 0 else {
        try string.expect(UInt64(end - at), "free rest", at: 8)
        break
      }
      try string.require(
        length <= end - at - 16, at: 8, "has a string of \(length) bytes, expected at most \(end - at - 16)")
      try string.require(
        lengths.updateValue(length, forKey: number) == nil, at: 0, "has two strings with the number \(number)")
      at += 16 + (Int(length) + 7) & ~7
    }
    try head.require(at <= end, at: 8, "ends within the padding of a string")
    return lengths
  }
}

extension HDF5Type {
  /// The types by their descriptions in headers.
  fileprivate static let byHeader = Dictionary(uniqueKeysWithValues: allCases.map { ($0.header, $0) })
  /// The description of a UTF-8 string of variable length.
  fileprivate static let textHeader = text(encoding: 1)
  /// The description of an ASCII one, as h5py makes it of `bytes` in a list.
  fileprivate static let asciiTextHeader = text(encoding: 0)

  private static func text(encoding: UInt8) -> [UInt8] {
    [0x19, 1, encoding, 0, 16, 0, 0, 0] + HDF5Type.uint8.header
  }

  /// The type as headers describe it: class and version, flags, size, and places and sizes in bits.
  private var header: [UInt8] {
    let (bytes, bits) = (UInt8(size), UInt8(8 * size))
    func integer(isSigned: Bool) -> [UInt8] { [0x10, isSigned ? 8 : 0, 0, 0, bytes, 0, 0, 0, 0, 0, bits, 0] }
    func float(exponent: UInt8, bias: UInt16) -> [UInt8] {
      let fraction = bits - 1 - exponent
      return [0x11, 0x20, bits - 1, 0, bytes, 0, 0, 0, 0, 0, bits, 0, fraction, exponent, 0, fraction]
        + [UInt8(bias & 0xFF), UInt8(bias >> 8), 0, 0]
    }
    return switch self {
    case .uint8, .uint64: integer(isSigned: false)
    case .int32, .int64: integer(isSigned: true)
    case .float16: float(exponent: 5, bias: 15)
    case .bfloat16, .float32: float(exponent: 8, bias: 127)
    case .float64: float(exponent: 11, bias: 1023)
    }
  }
}
