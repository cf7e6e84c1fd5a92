import Synchronization
import TestSupport
import Testing

@testable import Tensor

/// Kernels on one, two and three threads, each test in a process of its own.
///
/// The number of threads is global, and OpenBLAS hangs if it changes during a product, which then waits for threads
/// that have ended. It also hangs if a test starts a program during a product, because OpenBLAS ends its threads before
/// a fork; a process that computes on one thread has none to end.
@Suite struct ThreadsTests {
  fileprivate static func onThreads<T>(_ body: () -> T) -> [T] {
    [1, 2, 3].map { count in
      Threads.count = count
      return body()
    }
  }

  @Test func partsCoverEverythingOnce() async {
    await #expect(processExitsWith: .success) {
      for n in [0, 1, 2, 3, 7, 64, 1000] {
        for grain in [1, 8, 400] {
          let ranges = ThreadsTests.onThreads {
            let found = Ranges()
            Threads.split(n, grain: grain) { found.append($0, $1) }
            return found.sorted
          }
          for (count, parts) in zip(1...3, ranges) {
            #expect(parts.count <= count && parts.map(\.part) == Array(parts.indices))
            #expect(parts.flatMap { Array($0.range) } == Array(0..<n), "\(n) by \(grain) on \(count)")
            if parts.count > 1 { #expect(parts.allSatisfy { $0.range.count >= grain }) }
          }
        }
      }
    }
  }

  fileprivate final class Ranges: Sendable {
    private let found = Mutex<[(part: Int, range: Range<Int>)]>([])
    func append(_ part: Int, _ range: Range<Int>) { found.withLock { $0.append((part, range)) } }
    var sorted: [(part: Int, range: Range<Int>)] { found.withLock { $0.sorted { $0.part < $1.part } } }
  }

  @Test func thereIsAlwaysOneThread() async {
    await #expect(processExitsWith: .success) {
      for count in [0, -3] {
        Threads.count = count
        #expect(Threads.count == 1)
      }
    }
  }

  @Test func productsOfOtherKernelsStayOnTheirThread() async {
    await #expect(processExitsWith: .success) {
      let blas = ThreadsTests.onThreads {
        Threads.splitProducts(8) { _, _ in }
        return BLAS.threads
      }
      #expect(blas[0] == 1 && blas[1] >= 1)
    }
  }

  /// Results that a single thread computes have the same bits on any number of threads.
  @Test func kernelsThatGoByRows() async {
    await #expect(processExitsWith: .success) {
      let (n, w) = (401, 389)
      let x = Tensor<Float>.random(Shape(n, w), "x", bound: 3)
      let bias = Tensor<Float>.random(Shape(w), "bias")
      let results = ThreadsTests.onThreads { () -> [[Float]] in
        let y = Tensor(x.shape, x.array)
        let (sums, mean, reciprocal) = (Tensor<Float>(Shape(w)), Tensor<Float>(Shape(n)), Tensor<Float>(Shape(n)))
        var found: [[Float]] = []
        broadcast(bias, into: y)
        add(x, times: 0.5, to: y)
        scale(y, by: 3)
        add(y, bias: bias, into: y)
        found.append(y.array)
        addColumnSums(of: .fp32(x), to: sums)
        found.append(sums.array)
        let normed = Tensor<Float>(x.shape)
        layerNorm(x, weight: bias, bias: bias, into: .fp32(normed), statistics: (mean, reciprocal))
        found += [normed.array, mean.array, reciprocal.array]
        let h = Tensor(x.shape, x.array)
        for activation in [Activation.gelu, .quickGELU] {
          biasActivation(.fp32(h), bias: bias, activation, into: .fp32(normed))
          biasActivationBackward(.fp32(h), derivative: .fp32(normed), dbias: sums)
          found += [h.array, normed.array, sums.array]
        }
        fill(mean, -.infinity)
        fill(reciprocal, 0)
        foldLogSumExp(x, scale: 1.5, maximum: mean, sum: reciprocal)
        return found + [mean.array, reciprocal.array]
      }
      for other in results.dropFirst() {
        for (index, pair) in zip(results[0], other).enumerated() { #expect(pair.0 == pair.1, "result \(index)") }
      }
    }
  }

  @Test func kernelsOfImages() async {
    await #expect(processExitsWith: .success) {
      let plane = Plane(images: 3, height: 23, width: 21)
      let x = Tensor<Float>.random(Shape(plane.rows, 5), "x", bound: 3)
      let columns = ["mean", "scale", "bias"].map { Tensor<Float>.random(Shape(5), $0) }
      let vectors = BatchNormVectors(mean: columns[0], scale: columns[1], bias: columns[2])
      let results = ThreadsTests.onThreads { () -> [[Float]] in
        let unfolded = Tensor<Float>(Shape(69 * 21, 45))
        unfold(.fp32(x), plane, stride: 1, lines: 0..<69, into: .fp32(unfolded))
        let pooled = Tensor<Float>(Shape(plane.halved.rows, 5))
        averagePool(.fp32(x), plane, into: .fp32(pooled))
        let spread = Tensor<Float>(x.shape)
        averagePoolBackward(.fp32(pooled), plane, into: .fp32(spread))
        let normed = Tensor<Float>(x.shape)
        batchNorm(.fp32(x), vectors, adding: .fp32(spread), relu: true, into: .fp32(normed))
        let back = Tensor<Float>(x.shape)
        batchNormBackward(
          .fp32(spread), z: .fp32(x), recomputed: true, vectors, offset: columns[2], slope: columns[0],
          into: .fp32(back))
        return [unfolded.array, pooled.array, spread.array, normed.array, back.array]
      }
      #expect(results[0] == results[1] && results[0] == results[2])
    }
  }

  /// An image's convolution has the same bits on any thread and beside any other images.
  @Test(.enabled(if: OneDNN.hasConvolutions, "this processor has no AVX2")) func convolutionsByImage() async {
    await #expect(processExitsWith: .success) {
      func sizes(images: Int) -> ConvolutionSizes {
        ConvolutionSizes(Plane(images: images, height: 11, width: 13), inputs: 9, outputs: 17, size: 3)
      }
      let points = sizes(images: 1).plane.points
      let (x, dy) = (
        Tensor<Float>.random(Shape(5 * points, 9), "x"), Tensor<Float>.random(Shape(5 * points, 17), "dy")
      )
      let weight = Tensor<Float>.random(Shape(17, 9, 3, 3), "weight")
      func convolved(_ images: Range<Int>) -> [[Float]] {
        let rows = images.lowerBound * points..<images.upperBound * points
        let (y, dx) = (Tensor<Float>(Shape(rows.count, 17)), Tensor<Float>(Shape(rows.count, 9)))
        let room = MatrixOperandBuffer<Float>()
        convolve(x.rows(rows), weight, sizes(images: images.count), into: y, room: room)
        convolveBackward(dy.rows(rows), weight, sizes(images: images.count), into: dx, room: room)
        return [y.array, dx.array]
      }
      let results = ThreadsTests.onThreads { convolved(0..<5) }
      #expect(results[0] == results[1] && results[0] == results[2])
      let alone = convolved(2..<3)
      #expect(alone[0] == Array(results[0][0][2 * points * 17..<3 * points * 17]))
      #expect(alone[1] == Array(results[0][1][2 * points * 9..<3 * points * 9]))
    }
  }

  /// Sums over rows that threads share out differ only by rounding.
  @Test func statisticsOfColumns() async {
    await #expect(processExitsWith: .success) {
      let (n, c) = (1500, 7)
      let (x, dy) = (Tensor<Float>.random(Shape(n, c), "x", bound: 3), Tensor<Float>.random(Shape(n, c), "dy"))
      let columns = ["mean", "scale", "bias"].map { Tensor<Float>.random(Shape(c), $0) }
      let results = ThreadsTests.onThreads { () -> [Double] in
        let found = (0..<4).map { _ in Tensor<Double>(Shape(c)) }
        columnMoments(.fp32(x), mean: found[0], squares: found[1])
        batchNormBackwardSums(
          .fp32(dy), z: .fp32(x), mask: .recomputed,
          BatchNormVectors(mean: columns[0], scale: columns[1], bias: columns[2]), sum: found[2], along: found[3])
        return found.flatMap(\.array)
      }
      for other in results.dropFirst() { #expect(Deviation(other, from: results[0]).relative <= 2e-6) }
    }
  }

  @Test func kernelsThatGoByElements() async {
    await #expect(processExitsWith: .success) {
      let n = (1 << 16) * 3 + 17
      let results = ThreadsTests.onThreads { () -> [[Float]] in
        let p = Tensor<Float>(Shape(n))
        fill(p, 0.25)
        let g = Tensor<Float>(Shape(n))
        for index in stride(from: 0, to: n, by: 97) { g[index] = Float(index % 13) - 6 }
        add(g, times: 2, to: p)
        let (m, v) = (Tensor<Float>(Shape(n)), Tensor<Float>(Shape(n)))
        adamW(
          p, gradient: g, first: m, second: v,
          AdamWStep(learningRate: 0.1, decay: 0.1, beta1: 0.9, beta2: 0.98, epsilon: 1e-6, step: 3))
        return [p.array, m.array, v.array]
      }
      #expect(results[0] == results[1] && results[0] == results[2])
    }
  }

  /// Partial sums are added in another order, which changes the result by at most the rounding of n sums.
  @Test func sumsOverRows() async {
    await #expect(processExitsWith: .success) {
      let (n, w) = (389, 13)
      let (x, dy) = (Tensor<Double>.random(Shape(n, w), "x"), Tensor<Double>.random(Shape(n, w), "dy"))
      let weight = Tensor<Double>.random(Shape(w), "weight")
      let statistics: RowStatistics<Double> = (Tensor(Shape(n)), Tensor(Shape(n)))
      layerNorm(x, weight: weight, bias: weight, into: .fp32(Tensor(x.shape)), statistics: statistics)
      let results = ThreadsTests.onThreads { () -> [[Double]] in
        let (dx, dweight, dbias) = (Tensor<Double>(x.shape), Tensor<Double>(Shape(w)), Tensor<Double>(Shape(w)))
        layerNormBackward(
          dy, x: x, weight: weight, statistics: statistics, dx: dx, dweight: dweight, dbias: dbias)
        return [dx.array, dweight.array, dbias.array]
      }
      for other in results.dropFirst() {
        #expect(other[0] == results[0][0])
        for index in 1...2 {
          let deviation = Deviation(other[index], from: results[0][index])
          #expect(deviation.absolute <= Double(n) * Double.roundoff * Double(n), "\(deviation)")
        }
      }
    }
  }

  @Test func attentionAndProducts() async {
    await #expect(processExitsWith: .success) {
      let sequences = Sequences(lengths: [5, 1, 9, 2, 7])
      let (heads, w) = (3, 12)
      let pattern = AttentionPattern(sequences, heads: heads, causal: true)
      let qkv = Tensor<Double>.random(Shape(sequences.total, 3 * w), "qkv")
      let results = ThreadsTests.onThreads { () -> [[Double]] in
        let (o, dqkv) = (Tensor<Double>(Shape(sequences.total, w)), Tensor<Double>(qkv.shape))
        let (lse, tiles) = (Tensor<Double>(Shape(heads, sequences.total)), AttentionTiles<Double>())
        attention(.fp32(qkv), pattern, into: .fp32(o), logSumExp: lse, tiles: tiles)
        attentionBackward(
          .fp32(o), o: .fp32(o), qkv: .fp32(qkv), pattern, logSumExp: lse, into: .fp32(dqkv), tiles: tiles)
        let (q, kv) = (qkv.slice(0..<5 * w).reshaped(Shape(5, w)), Tensor<Double>.random(Shape(24, 2 * w), "kv"))
        let (one, sums) = (Tensor<Double>(q.shape), Tensor<Double>(Shape(heads, 5)))
        let (dq, dkv) = (Tensor<Double>(q.shape), Tensor<Double>(kv.shape))
        rowAttention(
          .fp32(q), kv: .fp32(kv), pattern, rows: sequences.lasts, into: .fp32(one), logSumExp: sums, tiles: tiles)
        rowAttentionBackward(
          .fp32(one), o: .fp32(one), q: .fp32(q), kv: .fp32(kv), pattern, rows: sequences.lasts, logSumExp: sums,
          into: (.fp32(dq), .fp32(dkv)), tiles: tiles)
        let images = Tensor<Double>.random(Shape(5, 3, 6, 6), "images")
        let rows = Tensor<Double>(Shape(5 * 9, 12))
        patches(of: images, size: 2, into: .fp32(rows))
        let product = Tensor<Double>(Shape(45, 45))
        matmul(rows, rows, into: product, transposeB: true)
        return [
          o.array, lse.array, dqkv.array, rows.array, product.array, one.array, sums.array, dq.array, dkv.array,
        ]
      }
      for other in results.dropFirst() {
        for (index, pair) in zip(results[0], other).enumerated() {
          let deviation = Deviation(pair.1, from: pair.0)
          #expect(deviation.relative <= 64 * Double.roundoff, "result \(index): \(deviation)")
        }
      }
    }
  }
}
