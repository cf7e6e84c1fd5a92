// The inner loops of the resize, over raw bytes. Each function checks the extents that it will touch once, at its
// start, and then runs without checks.

enum ResampleKernel {
  /// One output line as a weighted sum of `taps` source lines of `count` bytes each.
  ///
  /// into[to + j] = clip((2²¹ + Σ_t weights[weight + t] · source[from + t · stride + j]) / 2²²), 0 ≤ j < count.
  /// A line may be a row of pixels (vertical pass) or the pixels of many rows in one column (horizontal pass).
  static func combine(
    _ source: [UInt8], from: Int, stride: Int, weights: [Int32], weight: Int, taps: Int, count: Int,
    sums: inout [Int32], into: inout [UInt8], to: Int
  ) {
    precondition(from >= 0 && taps > 0 && from + (taps - 1) * stride + count <= source.count)
    precondition(weight >= 0 && weight + taps <= weights.count)
    precondition(to >= 0 && count <= sums.count && to + count <= into.count)
    unsafe source.withUnsafeBufferPointer { source in
      unsafe weights.withUnsafeBufferPointer { weights in
        unsafe sums.withUnsafeMutableBufferPointer { sums in
          unsafe into.withUnsafeMutableBufferPointer { into in
            let lines = unsafe source.baseAddress! + from
            let weights = unsafe weights.baseAddress! + weight
            let sums = sums.baseAddress!
            unsafe add(lines, stride, weights, taps, count, sums)
            unsafe clip(sums, count, into.baseAddress! + to)
          }
        }
      }
    }
  }

  /// sums[j] = 2²¹ + Σ_t weights[t] · lines[t · stride + j], four lines at a time.
  private static func add(
    _ lines: UnsafePointer<UInt8>, _ stride: Int, _ weights: UnsafePointer<Int32>, _ taps: Int, _ count: Int,
    _ sums: UnsafeMutablePointer<Int32>
  ) {
    let half: Int32 = 1 << (ResampleTable.precision - 1)
    for j in 0..<count { unsafe sums[j] = half }
    var tap = 0
    while tap + 4 <= taps {
      // One pointer a line: an index such as j + stride would be checked for overflow and keep the loop scalar.
      let first = unsafe lines + tap * stride
      let (second, third, fourth) = unsafe (first + stride, first + 2 * stride, first + 3 * stride)
      let (a, b, c, d) = unsafe (weights[tap], weights[tap + 1], weights[tap + 2], weights[tap + 3])
      for j in 0..<count {
        let left = unsafe Int32(first[j]) &* a &+ Int32(second[j]) &* b
        let right = unsafe Int32(third[j]) &* c &+ Int32(fourth[j]) &* d
        unsafe sums[j] = unsafe sums[j] &+ (left &+ right)
      }
      tap += 4
    }
    while tap < taps {
      let line = unsafe lines + tap * stride
      let weight = unsafe weights[tap]
      for j in 0..<count { unsafe sums[j] = unsafe sums[j] &+ Int32(line[j]) &* weight }
      tap += 1
    }
  }

  private static func clip(_ sums: UnsafePointer<Int32>, _ count: Int, _ bytes: UnsafeMutablePointer<UInt8>) {
    for j in 0..<count {
      let value = unsafe sums[j] >> ResampleTable.precision
      unsafe bytes[j] = UInt8(truncatingIfNeeded: min(max(value, 0), 255))
    }
  }

  /// Turns `rows` rows of RGB, `rowBytes` apart, into columns: into[(x · rows + r) · 3 + c] = row r, pixel x, channel
  /// c.
  static func columns(
    _ source: [UInt8], from: Int, rowBytes: Int, rows: Int, width: Int, into: inout [UInt8]
  ) {
    precondition(from >= 0 && rows > 0 && from + (rows - 1) * rowBytes + width * 3 <= source.count)
    precondition(width * rows * 3 <= into.count)
    unsafe source.withUnsafeBufferPointer { source in
      unsafe into.withUnsafeMutableBufferPointer { into in
        for row in 0..<rows {
          let pixels = unsafe source.baseAddress! + from + row * rowBytes
          let column = unsafe into.baseAddress! + row * 3
          for x in 0..<width {
            unsafe column[x &* rows &* 3] = unsafe pixels[x &* 3]
            unsafe column[x &* rows &* 3 &+ 1] = unsafe pixels[x &* 3 &+ 1]
            unsafe column[x &* rows &* 3 &+ 2] = unsafe pixels[x &* 3 &+ 2]
          }
        }
      }
    }
  }

  /// The way back: rows of `width` pixels from columns of `rows` pixels each.
  static func rows(
    _ source: [UInt8], rows: Int, width: Int, into: inout [UInt8], to: Int, rowBytes: Int
  ) {
    precondition(rows > 0 && width * rows * 3 <= source.count)
    precondition(to >= 0 && to + (rows - 1) * rowBytes + width * 3 <= into.count)
    unsafe source.withUnsafeBufferPointer { source in
      unsafe into.withUnsafeMutableBufferPointer { into in
        for row in 0..<rows {
          let column = unsafe source.baseAddress! + row * 3
          let pixels = unsafe into.baseAddress! + to + row * rowBytes
          for x in 0..<width {
            unsafe pixels[x &* 3] = unsafe column[x &* rows &* 3]
            unsafe pixels[x &* 3 &+ 1] = unsafe column[x &* rows &* 3 &+ 1]
            unsafe pixels[x &* 3 &+ 2] = unsafe column[x &* rows &* 3 &+ 2]
          }
        }
      }
    }
  }
}
