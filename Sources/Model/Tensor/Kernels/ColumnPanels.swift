// Sums of columns over rows, in Float: 64 columns at a time stay in registers while the loop runs over the rows, which
// is five times as fast as loading and storing their sums for every row.

/// Up to 64 columns of a row, or their sums.
struct Panel {
  typealias Lanes = SIMD16<Float>
  private typealias Words = SIMD16<UInt32>
  static let columns = 64
  fileprivate var lanes = (Lanes(), Lanes(), Lanes(), Lanes())

  @inline(__always) init() {}
  @inline(__always) private init(_ lanes: (Lanes, Lanes, Lanes, Lanes)) { self.lanes = lanes }

  /// Loads `count` columns; those beyond are 0.
  @inline(__always) init(_ p: UnsafePointer<Float>, _ count: Int) {
    let raw = UnsafeRawPointer(p)
    if count >= Self.columns {
      lanes = (
        raw.loadUnaligned(as: Lanes.self), raw.loadUnaligned(fromByteOffset: 64, as: Lanes.self),
        raw.loadUnaligned(fromByteOffset: 128, as: Lanes.self), raw.loadUnaligned(fromByteOffset: 192, as: Lanes.self)
      )
    } else {
      withUnsafeMutableBytes(of: &lanes) { $0.copyMemory(from: UnsafeRawBufferPointer(start: raw, count: 4 * count)) }
    }
  }

  /// Loads bfloat16 numbers, of which a word of 32 bits holds two: the even columns of the first 32, then the odd ones,
  /// and the same of the next 32, so that each needs no more than a shift or a mask.
  @inline(__always) init(rounded p: UnsafePointer<UInt16>, _ count: Int) {
    var words = (Words(), Words())
    let raw = UnsafeRawPointer(p)
    if count >= Self.columns {
      words = (raw.loadUnaligned(as: Words.self), raw.loadUnaligned(fromByteOffset: 64, as: Words.self))
    } else {
      withUnsafeMutableBytes(of: &words) { $0.copyMemory(from: UnsafeRawBufferPointer(start: raw, count: 2 * count)) }
    }
    lanes = (
      unsafeBitCast(words.0 &<< 16, to: Lanes.self), unsafeBitCast(words.0 & 0xFFFF_0000, to: Lanes.self),
      unsafeBitCast(words.1 &<< 16, to: Lanes.self), unsafeBitCast(words.1 & 0xFFFF_0000, to: Lanes.self)
    )
  }

  /// Loads Floats in the column order of `init(rounded:_:)`.
  @inline(__always) init(inOrderOfRounded p: UnsafePointer<Float>, _ count: Int) {
    withUnsafeMutableBytes(of: &lanes) { bytes in
      let lanes = bytes.assumingMemoryBound(to: Float.self)
      for column in 0..<min(count, Self.columns) { lanes[Self.place(column)] = p[column] }
    }
  }

  @inline(__always)
  private static func place(_ column: Int) -> Int { column & 32 | (column & 1) << 4 | (column & 31) >> 1 }

  @inline(__always) func store(_ p: Pointer<Float>, _ count: Int) {
    let raw = UnsafeMutableRawPointer(p)
    if count >= Self.columns {
      raw.storeBytes(of: lanes.0, as: Lanes.self)
      raw.storeBytes(of: lanes.1, toByteOffset: 64, as: Lanes.self)
      raw.storeBytes(of: lanes.2, toByteOffset: 128, as: Lanes.self)
      raw.storeBytes(of: lanes.3, toByteOffset: 192, as: Lanes.self)
    } else {
      withUnsafeBytes(of: lanes) { raw.copyMemory(from: $0.baseAddress.unsafelyUnwrapped, byteCount: 4 * count) }
    }
  }

  /// Stores Floats, from the column order of `init(rounded:_:)`.
  @inline(__always) func store(fromOrderOfRounded p: Pointer<Float>, _ count: Int) {
    withUnsafeBytes(of: lanes) { bytes in
      let lanes = bytes.assumingMemoryBound(to: Float.self)
      for column in 0..<min(count, Self.columns) { p[column] = lanes[Self.place(column)] }
    }
  }

  /// Stores bfloat16 numbers, rounded to nearest, ties to even. NaN stays NaN if its lower half is 0, as it is in sums
  /// of bfloat16 numbers: then nothing is carried into its sign.
  @inline(__always) func store(rounded p: Pointer<UInt16>, _ count: Int) {
    let words = (
      Self.upper(lanes.0) &>> 16 | Self.upper(lanes.1) & 0xFFFF_0000,
      Self.upper(lanes.2) &>> 16 | Self.upper(lanes.3) & 0xFFFF_0000
    )
    let raw = UnsafeMutableRawPointer(p)
    if count >= Self.columns {
      raw.storeBytes(of: words.0, as: Words.self)
      raw.storeBytes(of: words.1, toByteOffset: 64, as: Words.self)
    } else {
      withUnsafeBytes(of: words) { raw.copyMemory(from: $0.baseAddress.unsafelyUnwrapped, byteCount: 2 * count) }
    }
  }

  /// Returns words whose upper halves are the rounded numbers; the lower halves are arbitrary.
  @inline(__always) private static func upper(_ x: Lanes) -> Words {
    let bits = unsafeBitCast(x, to: Words.self)
    return bits &+ 0x7FFF &+ ((bits &>> 16) & 1)
  }

  /// Applies f to each column.
  @inline(__always) func map(_ f: (Lanes) -> Lanes) -> Panel { Panel((f(lanes.0), f(lanes.1), f(lanes.2), f(lanes.3))) }

  @inline(__always) func with(_ x: Panel, _ f: (Lanes, Lanes) -> Lanes) -> Panel {
    Panel((f(lanes.0, x.lanes.0), f(lanes.1, x.lanes.1), f(lanes.2, x.lanes.2), f(lanes.3, x.lanes.3)))
  }

  /// Returns the columns whose condition is above 0, and 0 in the others. If the condition is NaN it may return either;
  /// the NaN then shows in the other factor. It computes with bits because comparisons of vectors run lane by lane.
  @inline(__always) func passing(_ condition: Panel) -> Panel {
    with(condition) {
      let (value, sign) = (unsafeBitCast($0, to: SIMD16<Int32>.self), unsafeBitCast($1, to: SIMD16<Int32>.self))
      // The upper bit of both is set where sign > 0, and for neither zero.
      let passes = (~sign & (0 &- sign)) &>> 31
      return unsafeBitCast(value & passes, to: Lanes.self)
    }
  }

  @inline(__always) static func + (a: Panel, b: Panel) -> Panel { a.with(b) { $0 + $1 } }
  @inline(__always) static func - (a: Panel, b: Panel) -> Panel { a.with(b) { $0 - $1 } }

  /// Returns self + a · b.
  @inline(__always) func addingProduct(_ a: Panel, _ b: Panel) -> Panel {
    Panel(
      (
        lanes.0.addingProduct(a.lanes.0, b.lanes.0), lanes.1.addingProduct(a.lanes.1, b.lanes.1),
        lanes.2.addingProduct(a.lanes.2, b.lanes.2), lanes.3.addingProduct(a.lanes.3, b.lanes.3)
      ))
  }
}

/// Does the work of `blockMoments` in BatchNorm.swift, for Floats.
func panelMoments<E: Elements>(
  _ x: E, _ c: Int, _ rows: Range<Int>, _ center: Pointer<Float>, _ shift: Pointer<Float>, _ squares: Pointer<Float>
) {
  let share = 1 / Float(rows.count)
  @inline(__always) func moments(_ j: Int, count: Int) {
    var mean = Panel()
    for i in rows { mean = mean + x.panel(at: i * c + j, count) }
    mean = mean.map { $0 * share }
    var (distances, squared) = (Panel(), Panel())
    for i in rows {
      let distance = x.panel(at: i * c + j, count) - mean
      distances = distances + distance
      squared = squared.addingProduct(distance, distance)
    }
    E.put(mean, into: center + j, count)
    E.put(distances, into: shift + j, count)
    E.put(squared, into: squares + j, count)
  }
  let whole = c - c % Panel.columns
  for j in stride(from: 0, to: whole, by: Panel.columns) { moments(j, count: Panel.columns) }
  if whole < c { moments(whole, count: c - whole) }
}

/// Does the work of `blockSums` in BatchNorm.swift, for Floats.
func panelSums<E: Elements>(
  _ sums: BatchNormSums<E>, _ rows: Range<Int>, _ sum: Pointer<Float>, _ along: Pointer<Float>
) {
  let (c, (means, scales, biases)) = (sums.vectors.scale.count, sums.vectors.pointers)
  @inline(__always) func add(_ j: Int, count: Int) {
    let mean = E.panel(of: floats(means) + j, count)
    var (total, totalAlong) = (Panel(), Panel())
    switch sums.mask {
    case .none:
      for i in rows {
        let h = sums.gradient.panel(at: i * c + j, count)
        total = total + h
        totalAlong = totalAlong.addingProduct(h, sums.z.panel(at: i * c + j, count) - mean)
      }
    case .recomputed:
      let (scale, bias) = (E.panel(of: floats(scales) + j, count), E.panel(of: floats(biases) + j, count))
      for i in rows {
        let distance = sums.z.panel(at: i * c + j, count) - mean
        let h = sums.gradient.panel(at: i * c + j, count).passing(bias.addingProduct(distance, scale))
        total = total + h
        totalAlong = totalAlong.addingProduct(h, distance)
      }
    case .output(let y, let other):
      for i in rows {
        let at = i * c + j
        var h = sums.gradient.panel(at: at, count)
        if let other { h = h + other.panel(at: at, count) }
        sums.gradient.take(h.passing(y.panel(at: at, count)), at: at, count)
        // Use the stored numbers, which may be rounded.
        h = sums.gradient.panel(at: at, count)
        total = total + h
        totalAlong = totalAlong.addingProduct(h, sums.z.panel(at: at, count) - mean)
      }
    }
    E.put(total, into: sum + j, count)
    E.put(totalAlong, into: along + j, count)
  }
  let whole = c - c % Panel.columns
  for j in stride(from: 0, to: whole, by: Panel.columns) { add(j, count: Panel.columns) }
  if whole < c { add(whole, count: c - whole) }
}
