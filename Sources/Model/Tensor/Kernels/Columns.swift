internal import RealModule

// n rows, w columns of the wide side, m listed columns of the narrow side.

/// y[i, k] ← x[i, columns[k]]: [n, w] to [n, m].
@specialized(where S == Float)
@specialized(where S == Double)
public func gatherColumns<S: Scalar>(_ x: Tensor<S>, _ columns: [Int], into y: Tensor<S>) {
  let (w, m) = (check(x, columns, y), columns.count)
  let (p, q) = (x.pointer, y.pointer)
  columns.withUnsafeBufferPointer { columns in
    Threads.split(x.rows, grain: 64) { _, rows in
      for i in rows {
        for k in 0..<m { q[i * m + k] = p[i * w + columns[k]] }
      }
    }
  }
}

/// y[i, columns[k]] ← x[i, k], and 0 in all other columns: [n, m] to [n, w].
public func scatterColumns<S: Scalar>(_ x: Tensor<S>, _ columns: [Int], into y: Tensor<S>) {
  fill(y, 0)
  addColumns(x, columns, to: y)
}

/// y[i, columns[k]] ← y[i, columns[k]] + x[i, k]: [n, m] to [n, w].
@specialized(where S == Float)
@specialized(where S == Double)
public func addColumns<S: Scalar>(_ x: Tensor<S>, _ columns: [Int], to y: Tensor<S>) {
  let (w, m) = (check(y, columns, x), columns.count)
  let (p, q) = (x.pointer, y.pointer)
  columns.withUnsafeBufferPointer { columns in
    Threads.split(y.rows, grain: 64) { _, rows in
      for i in rows {
        for k in 0..<m { q[i * w + columns[k]] += p[i * m + k] }
      }
    }
  }
}

/// The wide side's columns.
private func check<S: Scalar>(_ wide: Tensor<S>, _ columns: [Int], _ narrow: Tensor<S>) -> Int {
  let w = wide.columns
  precondition(
    narrow.count == wide.rows * columns.count && columns.allSatisfy { $0 >= 0 && $0 < w },
    "columns \(columns.min() ?? 0) to \(columns.max() ?? 0) of \(wide.shape) and \(narrow.shape)")
  return w
}

/// y[i, j] ← x[i, j] · f[i] · g[j] for x [n, w], f [n], g [w]. Factors of 1 leave every bit as it is.
@specialized(where S == Float)
@specialized(where S == Double)
public func scaleRowsAndColumns<S: Scalar>(_ x: Tensor<S>, rows f: Tensor<S>, columns g: Tensor<S>, into y: Tensor<S>) {
  let (n, w) = (f.count, g.count)
  precondition(x.count == n * w && y.count == n * w, "\(x.shape) by \(n) rows and \(w) columns into \(y.shape)")
  let (p, a, b, q) = (x.pointer, f.pointer, g.pointer, y.pointer)
  Threads.split(n, grain: 64) { _, rows in
    for i in rows {
      let (source, target, factor) = (p + i * w, q + i * w, a[i])
      for j in 0..<w { target[j] = source[j] * factor * b[j] }
    }
  }
}

/// dy ← dx, in place: dx = dy[i, j] · f[i] · g[j]; adds df[i] += Σ_j dy x g[j] and dg[j] += Σ_i dy x f[i].
@specialized(where S == Float)
@specialized(where S == Double)
public func scaleRowsAndColumnsBackward<S: Scalar>(
  _ dy: Tensor<S>, x: Tensor<S>, rows f: Tensor<S>, columns g: Tensor<S>, df: Tensor<S>, dg: Tensor<S>
) {
  let (n, w) = (f.count, g.count)
  precondition(
    x.count == n * w && dy.count == n * w && df.count == n && dg.count == w,
    "\(dy.shape) by \(n) rows and \(w) columns of \(x.shape)")
  let (d, p, a, b, da, db) = (dy.pointer, x.pointer, f.pointer, g.pointer, df.pointer, dg.pointer)
  // Columns first, by threads that each own some; then rows, which also overwrite dy.
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
