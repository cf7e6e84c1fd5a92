internal import RealModule

// n rows; w columns of the wide matrix, of which the narrow one has m.

/// y[i, k] ← x[i, columns[k]], for x [n, w] and y [n, m].
@specialized(where S == Float) @specialized(where S == Double)
public func gatherColumns<S: Scalar>(_ x: Tensor<S>, _ columns: [Int], into y: Tensor<S>) {
  let (p, q) = (x.pointer, y.pointer)
  forEachPlace(of: y, in: x, columns) { wide, narrow in q[narrow] = p[wide] }
}

/// y[i, columns[k]] ← y[i, columns[k]] + x[i, k], for x [n, m] and y [n, w].
@specialized(where S == Float) @specialized(where S == Double)
public func addColumns<S: Scalar>(_ x: Tensor<S>, _ columns: [Int], to y: Tensor<S>) {
  let (p, q) = (x.pointer, y.pointer)
  forEachPlace(of: x, in: y, columns) { wide, narrow in q[wide] += p[narrow] }
}

/// Calls `body` with the place in `wide` of each number of `narrow`, and with its place there.
@inline(__always)
private func forEachPlace<S: Scalar>(
  of narrow: Tensor<S>, in wide: Tensor<S>, _ columns: [Int], _ body: (_ wide: Int, _ narrow: Int) -> Void
) {
  let (n, w, m) = (wide.rows, wide.columns, columns.count)
  precondition(
    narrow.count == n * m && columns.allSatisfy { $0 >= 0 && $0 < w },
    "columns \(columns.min() ?? 0) to \(columns.max() ?? 0) of \(wide.shape) and \(narrow.shape)")
  columns.withUnsafeBufferPointer { columns in
    Threads.forEach(n, grain: 64) { i in for k in 0..<m { body(i * w + columns[k], i * m + k) } }
  }
}

/// y[i, j] ← x[i, j] · f[i] · g[j], for x, y [n, w], f [n] and g [w]. Factors of 1 change no bit.
@specialized(where S == Float) @specialized(where S == Double)
public func scaleRowsAndColumns<S: Scalar>(_ x: Tensor<S>, rows f: Tensor<S>, columns g: Tensor<S>, into y: Tensor<S>) {
  let (n, w, p, a, b, q) = (f.count, g.count, x.pointer, f.pointer, g.pointer, y.pointer)
  precondition(x.count == n * w && y.count == n * w, "\(x.shape) by \(n) rows and \(w) columns into \(y.shape)")
  Threads.forEach(n, grain: 64) { i in
    let (source, target, factor) = (p + i * w, q + i * w, a[i])
    for j in 0..<w { target[j] = source[j] * factor * b[j] }
  }
}

/// dy ← dx, in place, with dx[i, j] = dy[i, j] · f[i] · g[j]; adds df[i] += Σ_j dy x g[j] and dg[j] += Σ_i dy x f[i].
@specialized(where S == Float) @specialized(where S == Double)
public func scaleRowsAndColumnsBackward<S: Scalar>(
  _ dy: Tensor<S>, x: Tensor<S>, rows f: Tensor<S>, columns g: Tensor<S>, df: Tensor<S>, dg: Tensor<S>
) {
  let (n, w) = (f.count, g.count)
  precondition(
    x.count == n * w && dy.count == n * w && df.count == n && dg.count == w,
    "\(dy.shape) by \(n) rows and \(w) columns of \(x.shape)")
  let (d, p, a, b, da, db) = (dy.pointer, x.pointer, f.pointer, g.pointer, df.pointer, dg.pointer)
  // Columns first, which threads share out among them; then rows, which also overwrite dy.
  Threads.split(w, grain: 64) { _, columns in
    for i in 0..<n {
      let (slope, source, factor) = (d + i * w, p + i * w, a[i])
      for j in columns { db[j] = db[j].addingProduct(slope[j] * source[j], factor) }
    }
  }
  Threads.split(n, grain: 64) { _, rows in
    for i in rows {
      let (slope, source, factor) = (d + i * w, p + i * w, a[i])
      var sum: S = 0
      for j in 0..<w {
        sum = Relaxed.multiplyAdd(slope[j] * source[j], b[j], sum)
        slope[j] = slope[j] * factor * b[j]
      }
      da[i] += sum
    }
  }
}

/// z_i = [x_i; y_i], for x [n, d], y [n, e] and z [n, d + e].
public func joinRows<S: Scalar>(_ x: Tensor<S>, _ y: Tensor<S>, into z: Tensor<S>) {
  let (n, d, e) = (x.rows, x.columns, y.columns)
  precondition(y.rows == n && z.rows == n && z.columns == d + e, "\(x.shape) beside \(y.shape) into \(z.shape)")
  for i in 0..<n {
    (z.pointer + i * (d + e)).update(from: x.pointer + i * d, count: d)
    (z.pointer + i * (d + e) + d).update(from: y.pointer + i * e, count: e)
  }
}

/// x_i += the first d columns of z_i, for x [n, d] and z [n, w].
@specialized(where S == Float) @specialized(where S == Double)
public func addLeadingColumns<S: Scalar>(of z: Tensor<S>, to x: Tensor<S>) {
  let (n, d, w, p, q) = (x.rows, x.columns, z.columns, z.pointer, x.pointer)
  precondition(z.rows == n && w >= d, "the first columns of \(z.shape) to \(x.shape)")
  for i in 0..<n { for j in 0..<d { q[i * d + j] += p[i * w + j] } }
}
