// Small groups: a symbol table, or links in the header.

extension HDF5Structure {
  /// Checks a symbol table: a B-tree with one leaf, which points to names in a heap. In our files the library keeps a
  /// group's members there as long as all of them are groups that it has made on the path of a data set.
  mutating func symbolTable(_ place: HDF5Block) throws(HDF5Error) {
    try place.expect(count: 16)
    let tree = try block("a symbol table's tree", 544, place, 0)
    // "TREE" of groups at level 0, without neighbours.
    try tree.expect([0x54, 0x52, 0x45, 0x45, 0, 0], at: 0)
    try tree.expect([UInt8](repeating: 0xFF, count: 16), at: 8)
    var heap = try NameHeap(place, &self)
    let leaves = tree.number(6, 2)
    try tree.require(leaves <= 1, at: 6, "has \(leaves) leaves, expected at most one")
    guard leaves == 1 else { return try heap.requireApart() }
    try tree.expect(0, "first key", at: 24)
    let leaf = try block("a symbol table", 328, tree, 32)
    // "SNOD"
    try leaf.expect([0x53, 0x4E, 0x4F, 0x44, 1, 0], at: 0)
    let count = Int(leaf.number(6, 2))
    try leaf.require(1...8 ~= count, at: 6, "has \(count) members, expected 1 to 8")
    var last = ""
    for at in stride(from: 8, to: 8 + 40 * count, by: 40) {
      let name = try heap.name(leaf, at)
      try leaf.require(
        last.utf8.lexicographicallyPrecedes(name.utf8), at: at,
        "has the member \(name) after \(last), expected the order of their bytes")
      last = name
      // A group has a cached address of a table, which need no longer be one, since the group has data sets by now.
      let isGroup = leaf.bytes[at + 16] != 0
      try leaf.expect([isGroup ? 1 : 0, 0, 0, 0, 0, 0, 0, 0], at: at + 16)
      visit(leaf, at + 8, isGroup: isGroup)
    }
    try tree.expect(leaf.number(8 + 40 * (count - 1)), "last key", at: 40)
    try heap.requireApart()
  }

  /// Checks a link, in a header with padding or in a heap without, and returns its name. Its object is checked later.
  mutating func link(_ link: HDF5Block, isPadded: Bool) throws(HDF5Error) -> String {
    try link.require(link.count >= 5, at: 0, "has \(link.count) bytes, expected at least 5")
    try link.expect([1], at: 0)
    // Bit 0 gives the name's length two bytes; bit 4 stands for a byte with the character set.
    let flags = link.bytes[1]
    try link.require(flags & ~0x11 == 0, at: 1, "has the flags \(flags), expected no others than 1 and 16")
    let isUTF8 = flags & 0x10 != 0
    if isUTF8 { try link.expect([1], at: 2) }
    let (at, width) = (isUTF8 ? 3 : 2, flags & 1 == 0 ? 1 : 2)
    let size = Int(link.number(at, width))
    let end = at + width + size + 8
    try link.require(
      isPadded ? (end + 7) & ~7 == link.count : end == link.count, at: at,
      "has a name of \(size) bytes, which does not fit its \(link.count) bytes")
    let name = try link.memberName(at + width, size)
    try link.expectZeros(from: end)
    visit(link, end - 8, isGroup: nil)
    return name
  }
}

/// The names of a symbol table's members, in a heap with a list of free bytes.
private struct NameHeap {
  private let data: HDF5Block
  /// The extents of names and of free bytes. The first 8 bytes are an empty name.
  private var used = [0..<8]

  /// Reads the heap whose address is in the second field of `place`.
  init(_ place: HDF5Block, _ structure: inout HDF5Structure) throws(HDF5Error) {
    let head = try structure.block("a heap of names", 32, place, 8)
    // "HEAP"
    try head.expect([0x48, 0x45, 0x41, 0x50, 0, 0, 0, 0], at: 0)
    let size = head.number(8)
    try head.require(size >= 8 && size % 8 == 0, at: 8, "has \(size) bytes, expected a multiple of 8")
    data = try structure.block("a heap of names", size, head, 24)
    try data.expect([0, 0, 0, 0, 0, 0, 0, 0], at: 0)
    var (link, field) = (head, 16)
    // The address 1 ends the list.
    while link.number(field) != 1 {
      let next = link.number(field)
      try link.require(
        next % 8 == 0 && size >= 16 && next <= size - 16, at: field,
        "has its next free bytes at \(next), expected a multiple of 8 within \(size) bytes, or 1")
      let at = Int(next)
      let free = data.number(at + 8)
      try data.require(
        free >= 16 && free % 8 == 0 && free <= size - next, at: at + 8,
        "has \(free) free bytes, expected a multiple of 8 from 16 to \(size - next)")
      used.append(at..<at + Int(free))
      try data.require(16 * used.count <= size + 32, at: at, "has a list of free bytes that never ends")
      (link, field) = (data, at)
    }
  }

  /// Returns the name whose offset is in the field of `leaf`.
  mutating func name(_ leaf: HDF5Block, _ field: Int) throws(HDF5Error) -> String {
    let offset = leaf.number(field)
    guard offset % 8 == 0, offset < data.count, let end = data.bytes[Int(offset)...].firstIndex(of: 0) else {
      throw leaf.refusal(field, "has a name at \(offset), expected a multiple of 8 within \(data.count) bytes")
    }
    let start = Int(offset)
    used.append(start..<(end + 8) & ~7)
    return try data.memberName(start, end - start)
  }

  /// Throws if names or free bytes overlap.
  func requireApart() throws(HDF5Error) {
    if let shared = used.firstOverlap { throw data.refusal(shared, "has two names or free bytes there, expected one") }
    let end = used.map(\.upperBound).max() ?? 0
    try data.require(end <= data.count, at: 0, "has \(data.count) bytes, expected \(end) for its names")
  }
}
