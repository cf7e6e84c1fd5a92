import Dist
import Foundation
import Model
import Tensor

/// The model of a benchmark and the work of each rank.
struct BenchWork {
  let preset: String
  /// The pairs of each rank, and the tokens of a caption with both ends.
  let batch, captionTokens: Int
  /// The share of an image's patches that training leaves out.
  var patchDropout = 0.0

  /// Returns the preset's sizes, after checking that the captions fit.
  func config() throws -> CLIPConfig {
    var config = try CLIPConfig(preset: preset)
    // A preset that takes its size from a run's vocabulary has none here; CLIP's size is assumed.
    if config.text.vocabularySize == 0 { config.text.vocabularySize = 49408 }
    guard captionTokens <= config.text.contextLength else {
      throw UserError(
        "--caption-tokens \(captionTokens) is more than the \(config.text.contextLength) of \(preset)'s context",
        status: .usage)
    }
    guard patchDropout == 0 || config.vision.stages == nil else {
      throw UserError(
        "--patch-dropout belongs to transformers, and \(preset) has a ResNet; leave it out", status: .usage)
    }
    config.vision.patchDropout = patchDropout
    return config
  }

  /// Makes sure that the model and its pairs fit into memory, for forwards or for training. Every rank must call it.
  func requireMemory(
    _ config: CLIPConfig, _ use: TowerUse = .training, microBatchSize: Int? = nil, recompute: Recompute = .none,
    precision: ComputePrecision = .fp32, over ranks: Communicator
  ) throws {
    let held = min(batch, microBatchSize ?? batch)
    var parts = try config.memory(
      pairs: held, use: held < batch ? .trainingInPieces : use, recompute: recompute, precision: precision)
    let pixels = config.vision.imageSize * config.vision.imageSize
    parts.append(.init(name: "further images", bytes: 12 * (batch - held) * pixels))
    try MemoryDemand(subject: "this benchmark", parts: parts, advice: "lower --batch, or start fewer ranks on a node")
      .require(over: ranks)
  }

  /// Returns `32 pairs a rank on 2 ranks of 1 thread, BLAS SkylakeX`, for headings.
  func setting(_ communicator: Communicator) -> String {
    "\(batch) pairs a rank on \(communicator.size) ranks of \(Figures.count(Threads.count, "thread")), "
      + "BLAS \(BLAS.kernel)"
  }
}

/// Synthetic images and captions of this rank's rows of a global batch of `count` pairs: functions of the row.
struct BenchInput {
  /// [b, 3, size, size].
  let images: Tensor<Float>
  let captions: [[Int32]]
  /// The tokens of each image that training computes; nil: all.
  let kept: [Int]?
  let rows: Range<Int>
  let count: Int

  init(_ config: CLIPConfig, _ work: BenchWork, over communicator: Communicator) {
    count = work.batch * communicator.size
    rows = communicator.slice(of: count)
    let size = config.vision.imageSize
    images = Tensor<Float>(Shape(rows.count, 3, size, size))
      .fillUniform(-2..<2, purpose: "bench pictures", UInt64(rows.lowerBound))
    let vision = config.vision
    kept =
      vision.patchDropout > 0
      ? rows.flatMap { vision.keptTokens(KeyedRandom(seed: 0, purpose: "bench patches", UInt64($0))) } : nil
    captions = rows.map { row in
      var random = KeyedRandom(seed: 0, purpose: "bench captions", UInt64(row))
      let end = config.text.vocabularySize - 1
      let words = (0..<max(work.captionTokens - 2, 0)).map { _ in Int32(1 + random.below(end - 2)) }
      return [Int32(end - 1)] + words + [Int32(end)]
    }
  }

  /// Trains one step on these captions, and on these images unless others are given.
  func train(
    _ step: Step<Float>, images other: Tensor<Float>? = nil, teacherScale: Float? = nil
  ) throws -> StepOutcome {
    let batch = StepBatch(
      images: other ?? images, captions: captions, kept: kept, rows: rows, count: count, teacherScale: teacherScale)
    return try step.run(batch, learningRate: 1e-4)
  }
}

extension Tensor<Float> {
  /// Fills the tensor with random numbers of a range, which depend on `purpose` and `key`, and returns it.
  @discardableResult
  func fillUniform(_ range: Range<Double>, seed: UInt64 = 0, purpose: String, _ key: UInt64 = 0) -> Tensor {
    var random = KeyedRandom(seed: seed, purpose: purpose, key)
    for index in 0..<count { self[index] = Float(random.uniform(from: range.lowerBound, to: range.upperBound)) }
    return self
  }
}

/// The rates that bound a step's products, in operations per second of one rank.
struct RoofRates {
  /// The rates of `library`, `processor` and `core`. One that was not measured on every rank is not a number.
  fileprivate var values: [Double]
  /// The processor's instructions that were measured.
  fileprivate var instructions: String

  /// The rate of the library's products at the step's own shapes.
  var library: Double { values[0] }
  /// The rate of the processor's own multiply-adds in the precisions of the step's products, on all threads of a rank:
  /// the physical limit. Nil if it has no loop of them.
  var processor: Double? { values[1].isFinite ? values[1] : nil }
  /// The same on one thread.
  var core: Double? { values[2].isFinite ? values[2] : nil }

  static func mean(of measured: [RoofRates]) -> RoofRates {
    var mean = measured[0]
    for index in mean.values.indices {
      mean.values[index] = measured.reduce(0) { $0 + $1.values[index] } / Double(measured.count)
    }
    return mean
  }

  /// The rates for headings: `92.1 GFLOP/s a rank, the processor's limit 118.4 (256-bit FMAs; 118.4 a core)`.
  var text: String {
    func giga(_ rate: Double) -> String { Figures.fixed(rate / 1e9, 1) }
    guard let processor, let core else { return "\(giga(library)) GFLOP/s a rank, the processor's limit not measured" }
    return "\(giga(library)) GFLOP/s a rank, the processor's limit \(giga(processor)) "
      + "(\(instructions); \(giga(core)) a core)"
  }
}

/// The rate at which this machine multiplies matrices of exactly the shapes that a step has.
struct MatrixRoof {
  /// The number of times that a step computes each shape.
  let products: [Profile.Product: Int]
  private let a, b, c: Tensor<Float>

  init(_ products: [Profile.Product: Int]) {
    self.products = products
    a = Tensor(Shape(products.keys.map { $0.m * $0.k }.max() ?? 0))
    b = Tensor(Shape(products.keys.map { $0.n * $0.k }.max() ?? 0))
    c = Tensor(Shape(products.keys.map { $0.m * $0.n }.max() ?? 0))
    // Denormal or zero operands would be a different load.
    a.fillUniform(-1..<1, seed: 1, purpose: "bench")
    b.fillUniform(-1..<1, seed: 2, purpose: "bench")
  }

  /// The floating-point operations of one step's products.
  var operations: Double { products.reduce(0) { $0 + $1.key.operations * Double($1.value) } }
  private var precisions: Set<ComputePrecision> { Set(products.keys.map(\.precision)) }

  /// Returns the mean of the ranks' rates over the step's own mix of shapes and precisions. Every rank must call it.
  func rates(over communicator: Communicator) throws -> RoofRates {
    try communicator.barrier()
    let total = products.sorted { $0.key.operations < $1.key.operations }
      .reduce(0) { $0 + time($1.key, seconds: 0.05) * Double($1.value) }
    let all = limit(threads: Threads.count)
    var values = [operations / total, all, Threads.count == 1 ? all : limit(threads: 1)]
    try communicator.allReduce(&values)
    let names = precisions.compactMap { MultiplyAdds($0)?.name }
    return RoofRates(
      values: values.map { $0 / Double(communicator.size) }, instructions: names.sorted().joined(separator: " and "))
  }

  /// Measures the rate of the processor's own multiply-adds over the step's mix of precisions; not a number if it is
  /// not known for each of them.
  private func limit(threads: Int) -> Double {
    let rates = Dictionary(
      uniqueKeysWithValues: precisions.map { ($0, MultiplyAdds($0)?.rate(threads: threads) ?? .nan) })
    let seconds = products.reduce(0.0) {
      $0 + $1.key.operations * Double($1.value) / (rates[$1.key.precision] ?? .nan)
    }
    return operations / seconds
  }

  /// Returns the mean seconds of one product over as many as fill the time, after one that warms up. If threads compute
  /// products of their own, it is the time of one thread divided by their number.
  private func time(_ product: Profile.Product, seconds: Double) -> Double {
    let threads = Threads.count
    guard threads == 1 || !product.besideOthers else {
      Threads.count = 1
      defer { Threads.count = threads }
      return time(product, seconds: seconds) / Double(threads)
    }
    let (m, n, k) = (product.m, product.n, product.k)
    let x = a.slice(0..<m * k).reshaped(product.transposeA ? Shape(k, m) : Shape(m, k))
    let y = b.slice(0..<n * k).reshaped(product.transposeB ? Shape(n, k) : Shape(k, n))
    let z = c.slice(0..<m * n).reshaped(Shape(m, n))
    let (left, right) = (BFloat16Buffer(), BFloat16Buffer())
    let operands = (left.operand(x, product.precision), right.operand(y, product.precision))
    func multiply() {
      // Not in pieces: the profile already lists the pieces that the step's products were cut into.
      matmul(
        whole: operands.0, operands.1, into: .fp32(z), transposeA: product.transposeA, transposeB: product.transposeB)
    }
    multiply()
    // Reading the clock must not weigh on small products.
    let repeats = max(1, Int(2e6 / product.operations))
    return meanSeconds(during: seconds) { for _ in 0..<repeats { multiply() } } / Double(repeats)
  }
}

extension Communicator {
  /// Returns the mean of one number over the ranks. Every rank must call it.
  func mean(_ value: Double) throws -> Double { try allReduce(value) / Double(size) }
}
