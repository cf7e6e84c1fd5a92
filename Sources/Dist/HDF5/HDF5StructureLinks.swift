// Groups whose members are links; beyond eight, these are in a fractal heap, and a B-tree sorts them by their hashes.

/// The links of one group while its B-tree is walked.
private struct LinkHeap {
  /// The blocks with links, by their rising offsets in the heap's own space.
  var blocks: [(offset: Int, block: HDF5Block)] = []
  /// The extents of the links in that space.
  var used: [Range<Int>] = []
  /// The last link of the tree, after which the hash must rise, or among equal hashes the name's bytes.
  var last: (hash: UInt64, name: String) = (0, "")

  // Four blocks make a row. Those of the first rows hold links; those of later rows are divided like the heap itself.
  static let (width, directRows, firstSize) = (4, 9, 512)
  static func blockSize(row: Int) -> Int { row == 0 ? firstSize : firstSize << (row - 1) }
}

extension HDF5Structure {
  /// Checks the links of a group that are not in its header; `place` has the addresses of their heap and their tree.
  /// A group has links in one of both places only.
  mutating func manyLinks(_ place: HDF5Block, isEmpty: Bool) throws(HDF5Error) {
    try place.expect(count: 24)
    try place.expect([0, 0], at: 0)
    try place.expectZeros(from: 18)
    if place.number(2) == Self.nowhere, place.number(10) == Self.nowhere { return }
    try place.require(isEmpty, at: 2, "places the links elsewhere, expected them in the header, which has some")

    let head = try block("a heap of links", 146, place, 2)
    try head.expectChecksum(at: 142)
    // "FRHP"; numbers of a link in 7 bytes, no filters, checksums in all blocks, links of up to 4096 bytes.
    try head.expect([0x46, 0x52, 0x48, 0x50, 0, 7, 0, 0, 0, 2, 0, 16, 0, 0], at: 0)
    // No links are too large or small for blocks. Lists of free space, which only writers read, are passed over.
    for (at, expected) in [(14, 0), (22, Self.nowhere), (78, 0), (86, 0), (94, 0), (102, 0)] as [(Int, UInt64)] {
      try head.expect(expected, "number", at: at)
    }
    // The width, the smallest and the largest block, 32 bits for an offset, and one row at the beginning.
    try head.expect([4, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 32, 0, 1, 0], at: 110)
    var heap = LinkHeap()
    let rows = Int(head.number(140, 2))
    if rows == 0 {
      try linkBlock(head, 132, of: head, at: 0, size: LinkHeap.firstSize, &heap)
    } else {
      try linkBlockRows(head, 132, rows, of: head, at: 0, &heap)
    }
    let space = rows == 0 ? LinkHeap.firstSize : LinkHeap.width * LinkHeap.blockSize(row: rows)
    try head.expect(UInt64(space), "size", at: 46)
    try head.expect(UInt64(heap.blocks.reduce(0) { $0 + $1.block.count }), "size of its blocks", at: 54)
    try head.require(!heap.blocks.isEmpty, at: 132, "has no blocks, expected some")

    let tree = try block("a tree of links", 38, place, 10)
    try tree.expectChecksum(at: 34)
    // "BTHD" of names; nodes of 512 bytes and records of 11, which are split when full and merged below 40%.
    try tree.expect([0x42, 0x54, 0x48, 0x44, 0, 5, 0, 2, 0, 0, 11, 0], at: 0)
    try tree.expect([100, 40], at: 14)
    let (depth, total) = (Int(tree.number(12, 2)), tree.number(26))
    try tree.require(depth <= 5, at: 12, "has the depth \(depth), expected at most 5")
    try tree.expect(head.number(70), "number of links", at: 26)
    try tree.require(total > 0, at: 26, "has no links, expected some")
    try node(tree, 16, records: Int(tree.number(24, 2)), total: total, NodeSizes.upTo(depth)[...], &heap)
    if let shared = heap.used.firstOverlap {
      throw head.refusal(0, "has two links that share the byte \(shared) of its space, expected none")
    }
  }

  /// Checks a block with links, whose checksum is within it.
  private mutating func linkBlock(
    _ link: HDF5Block, _ field: Int, of head: HDF5Block, at offset: Int, size: Int, _ heap: inout LinkHeap
  ) throws(HDF5Error) {
    let block = try block("a block of links", UInt64(size), link, field)
    try block.expectChecksum(at: 17)
    // "FHDB"
    try block.expect([0x46, 0x48, 0x44, 0x42, 0], at: 0)
    try block.expect(address(of: head), "heap", at: 5)
    try block.expect(UInt64(offset), "offset in its heap", at: 13, 4)
    heap.blocks.append((offset, block))
  }

  /// Checks a block with the addresses of rows of blocks, and these blocks.
  private mutating func linkBlockRows(
    _ link: HDF5Block, _ field: Int, _ rows: Int, of head: HDF5Block, at offset: Int, _ heap: inout LinkHeap
  ) throws(HDF5Error) {
    // A heap of 22 rows has the 2³² bytes that offsets reach.
    try head.require(rows <= 22, at: 140, "has \(rows) rows, expected at most 22")
    let count = rows * LinkHeap.width
    let block = try block("a list of blocks of links", UInt64(17 + 8 * count + 4), link, field)
    try block.expectChecksum(at: 17 + 8 * count)
    // "FHIB"
    try block.expect([0x46, 0x48, 0x49, 0x42, 0], at: 0)
    try block.expect(address(of: head), "heap", at: 5)
    try block.expect(UInt64(offset), "offset in its heap", at: 13, 4)
    var offset = offset
    for index in 0..<count {
      let (row, at) = (index / LinkHeap.width, 17 + 8 * index)
      let size = LinkHeap.blockSize(row: row)
      if block.number(at) != Self.nowhere {
        if row < LinkHeap.directRows {
          try linkBlock(block, at, of: head, at: offset, size: size, &heap)
        } else {
          // As many rows as it takes to fill the size.
          let rows = (size / (LinkHeap.width * LinkHeap.firstSize)).trailingZeroBitCount + 1
          try linkBlockRows(block, at, rows, of: head, at: offset, &heap)
        }
      }
      offset += size
    }
  }

  /// Checks a node of the tree and all below it, which hold `total` records. The first of `sizes` are its own.
  private mutating func node(
    _ link: HDF5Block, _ field: Int, records: Int, total: UInt64, _ sizes: ArraySlice<NodeSizes>,
    _ heap: inout LinkHeap
  ) throws(HDF5Error) {
    guard let own = sizes.first else { return }
    let isLeaf = sizes.count == 1
    try link.require(
      1...own.most ~= records, at: field + 8, "gives a node \(records) records, expected 1 to \(own.most)")
    let whole = try block("a node of a tree of links", UInt64(NodeSizes.node), link, field)
    let pointers = 6 + NodeSizes.record * records
    let end = pointers + (isLeaf ? 0 : own.pointer * (records + 1))
    let node = whole.part(whole.what, 0, end + 4)
    try node.expectChecksum(at: end)
    // "BTLF" or "BTIN" of names
    try node.expect(isLeaf ? [0x42, 0x54, 0x4C, 0x46, 0, 5] : [0x42, 0x54, 0x49, 0x4E, 0, 5], at: 0)
    var rest = total
    func take(_ count: UInt64, _ at: Int) throws(HDF5Error) {
      try node.require(count <= rest, at: at, "has more than the \(total) links that it should")
      rest -= count
    }
    for index in 0...records {
      if !isLeaf {
        let at = pointers + own.pointer * index
        let records = node.number(at + 8, 1)
        // Only nodes with nodes below have a total beside their own number.
        let below = own.pointer > 9 ? node.number(at + 9, own.pointer - 9) : records
        try take(below, at)
        try self.node(node, at, records: Int(records), total: below, sizes.dropFirst(), &heap)
      }
      if index < records {
        let at = 6 + NodeSizes.record * index
        try take(1, at)
        try record(node, at, &heap)
      }
    }
    try node.require(rest == 0, at: 0, "has \(total - rest) links with all below it, expected \(total)")
  }

  /// Checks a record of a link: the hash of its name, its offset in the heap's space, and its length.
  private mutating func record(_ node: HDF5Block, _ at: Int, _ heap: inout LinkHeap) throws(HDF5Error) {
    try node.expect([0], at: at + 4)
    let (offset, length) = (Int(node.number(at + 5, 4)), Int(node.number(at + 9, 2)))
    let index = heap.blocks.indices.last(holding: { heap.blocks[$0].offset <= offset })
    let (start, block) = heap.blocks[index]
    // A block begins with 21 bytes of its own.
    try node.require(
      offset - start >= 21 && offset - start + length <= block.count, at: at + 5,
      "has a link of \(length) bytes at \(offset) of its heap's space, expected them within a block")
    heap.used.append(offset..<offset + length)
    let name = try link(block.part("a link", offset - start, length), isPadded: false)
    let hash = UInt64(lookup3(Array(name.utf8)))
    try node.expect(hash, "hash of the link \(name)", at: at, 4)
    let isNext =
      hash > heap.last.hash || (hash == heap.last.hash && heap.last.name.utf8.lexicographicallyPrecedes(name.utf8))
    try node.require(isNext, at: at, "has the link \(name) after \(heap.last.name), expected the order of their hashes")
    heap.last = (hash, name)
  }
}

/// The sizes of the nodes at one depth of a tree of links.
private struct NodeSizes {
  /// The bytes of a node and of a record.
  static let (node, record) = (512, 11)
  /// The greatest number of a node's own records, and of all records that it and the nodes below it can hold.
  var most: Int
  var mostBelow: Int
  /// The bytes of a pointer to a node: its address, the number of its records, and that of all below it.
  var pointer: Int

  /// Returns the sizes of nodes from depth `depth` down to the leaves, in which signature, type and checksum take 10
  /// bytes.
  static func upTo(_ depth: Int) -> [NodeSizes] {
    let leaf = (node - 10) / record
    var sizes = [NodeSizes(most: leaf, mostBelow: leaf, pointer: 0)]
    for level in 0..<depth {
      let below = sizes[level].mostBelow
      let pointer = 9 + (level == 0 ? 0 : (below.bitWidth - below.leadingZeroBitCount + 7) / 8)
      let most = (node - 10 - pointer) / (record + pointer)
      sizes.append(NodeSizes(most: most, mostBelow: (most + 1) * below + most, pointer: pointer))
    }
    return sizes.reversed()
  }
}
