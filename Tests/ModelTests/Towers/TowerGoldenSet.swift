import Dist
import Foundation
import Model
import Tensor
import TestSupport

/// The `vit` or `resnet` part of the golden set: a small CLIP of open_clip's, its inputs, and what it computes.
struct TowerGoldenSet {
  struct Meta: Decodable {
    struct Adam: Decodable {
      let lr: Double
      let weightDecay: Double
      let betas: [Double]
      let eps: Double
      let steps: Int
      let clamp: [Double]
      let decayed: [String]
      let notDecayed: [String]
    }
    /// A sample of a parameter that is too large for the file: every `stride`-th element, and sums.
    struct LeftOut: Decodable {
      let stride: Int
      let sum: Double
      let l2: Double
      let l2OfChange: Double
    }
    let batch: Int
    let adamw: Adam
    let adamwLossesF32: [Double]
    let adamwLossesF64: [Double]
    let adamwLogitScaleF32: [Double]
    let adamwLogitScaleF64: [Double]
    let afterLeftOut: [String: LeftOut]
  }

  let meta: Meta
  let weights: SafetensorsFile
  let outputs: SafetensorsFile
  private let images: Tensor<Double>
  private let tokens: [[Int32]]
  private let steps: [[Int]]

  private let folder: String

  init(_ folder: String) throws {
    self.folder = folder
    func file(_ name: String) -> URL { Self.file(folder, name) }
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    meta = try decoder.decode(Meta.self, from: Data(contentsOf: file("meta.json")))
    weights = try SafetensorsFile(file("weights.safetensors"))
    outputs = try SafetensorsFile(file("outputs.safetensors"))
    let inputs = try SafetensorsFile(file("inputs.safetensors"))
    images = try inputs.tensor("images")
    tokens = try Self.rows(inputs, "tokens").map { $0.map(Int32.init) }
    steps = try Self.rows(inputs, "step_index")
    let pool = 0..<min(images.shape[0], tokens.count)
    guard meta.batch > 0, meta.batch <= pool.count, steps.count == meta.adamw.steps,
      steps.joined().allSatisfy(pool.contains)
    else {
      throw Fixture.Incomplete(
        description: "\(folder)/meta.json asks for other batches than \(folder)/inputs.safetensors has")
    }
  }

  private static func file(_ folder: String, _ name: String) -> URL {
    Fixture.golden.appending(path: "\(folder)/\(name)")
  }

  func file(_ name: String) -> URL { Self.file(folder, name) }

  private static func rows(_ file: SafetensorsFile, _ name: String) throws -> [[Int]] {
    let (numbers, width) = (try file.integers(name), try file.shape(of: name).columns)
    return stride(from: 0, to: numbers.count, by: width).map { Array(numbers[$0..<$0 + width]) }
  }

  /// Returns the model with open_clip's weights; its config file is named `open_clip_config<variant>.json`.
  func model<S: Scalar>(_ variant: String = "", precision: ComputePrecision = .fp32) throws -> CLIP<S> {
    let config = try CLIPConfig(json: Data(contentsOf: file("open_clip_config\(variant).json")))
    let model = CLIP<S>(config, precision: precision)
    for entry in model.parameters.entries { try weights.read(entry.name, into: model.parameters.value(of: entry)) }
    for buffer in model.parameters.buffers {
      let value = model.parameters.value(of: buffer)
      if buffer.isCount {
        value[0] = Double(try weights.integers(buffer.name)[0])
      } else {
        try weights.read(buffer.name, into: value)
      }
    }
    return model
  }

  /// These rows of the pool, as the towers take them.
  func batch<S: Scalar>(_ rows: [Int]) -> (images: Tensor<S>, tokens: TokenBatch) {
    let shape = images.shape
    let size = shape.count / shape[0]
    let chosen = rows.flatMap { images.slice($0 * size..<($0 + 1) * size).array }
    return (
      Tensor(Shape(rows.count, shape[1], shape[2], shape[3]), chosen.map { S($0) }),
      TokenBatch(rows.map { tokens[$0] })
    )
  }

  var mainBatch: [Int] { Array(0..<meta.batch) }

  /// The rows of the pool that a step of AdamW uses.
  func rows(ofStep step: Int) -> [Int] { steps[step] }
}
