import Dist
import Foundation
import Model
import Tensor

/// Everything about a run that its memory, messages and time depend on, except for the cluster.
struct RunShape {
  var run: RunConfig
  let config: CLIPConfig
  /// The layout of the model's parameters and the objective's own.
  let parameters: ParameterStore<Float>
  /// The first teacher; nil if no term uses one.
  let teacher: Teacher?
  var frozen = Frozen.none
  /// The widths of the embeddings of the teachers after the first.
  var ensemble: [Int] = []
  /// A sample of the run's captions. If it is nil, every caption counts as one that fills its context.
  var captions: CaptionSample?
  /// The number of captions of each image in a step.
  var captionsPerImage: Int { captions?.perImage ?? 1 }
  var threads = 1
  /// The number of steps that are done when the run starts.
  var done = 0
  /// The masks of the next step; nil if the run does not prune, or if its model is cut already.
  var masks: MaskLayout? {
    guard let pruning = Pruning(run), !pruning.isCut(after: done) else { return nil }
    return MaskLayout(config, towers: pruning.config.towers)
  }
  /// The nodes of the ranks that are running; nil if the run is only planned, for nodes of equal size.
  var nodes: NodeMap?
  /// The bytes that a process holds besides the run's own memory (`measureProgram`); 0 leaves them out.
  var program = 0

  /// A teacher as far as its memory and its operations depend on it.
  struct Teacher {
    /// Its sizes; nil if another program computed its embeddings.
    let config: CLIPConfig?
    /// The width of its embeddings.
    let width: Int
    /// The number of pairs that pass through its towers together; nil for all pairs of a rank.
    let microBatchSize: Int?
    /// True if its embeddings come from a cache. Then its weights are not loaded, and it computes nothing.
    let isCached: Bool

    init(config: CLIPConfig, microBatchSize: Int?, isCached: Bool) {
      (self.config, width) = (config, config.embedding)
      (self.microBatchSize, self.isCached) = (microBatchSize, isCached)
    }

    /// Describes a teacher of which only the embeddings are known.
    init(importedWidth width: Int) {
      (config, self.width, microBatchSize, isCached) = (nil, width, nil, true)
    }
  }

  /// The teacher that computes its embeddings during the run, if there is one.
  var loadedTeacher: (config: CLIPConfig, microBatchSize: Int?)? {
    guard let teacher, !teacher.isCached, let config = teacher.config else { return nil }
    return (config, teacher.microBatchSize)
  }
  /// The precisions of the matrix products of the model, and of a teacher that computes its embeddings.
  var precisions: [ComputePrecision] { [run.precision.used] + (teacher?.isCached == true ? [] : [teacherPrecision]) }
  var teacherPrecision: ComputePrecision { run.teacher?.precision.used ?? .fp32 }

  func objectiveSize(rows: Int) -> ObjectiveSize {
    ObjectiveSize(
      rows: rows, count: run.batch.global, student: config.embedding,
      teacher: teacher?.width ?? config.embedding)
  }

  /// Returns the estimate of the rank that has the most pairs, which is the last one. Each node has `nodeSize` ranks.
  func estimate(ranks: Int, ofNode nodeSize: Int) -> RunEstimate {
    RunEstimate(self, rank: ranks - 1, of: ranks, ofNode: nodeSize)
  }

  /// Returns the number of the teacher's weights that count as one rank's: all of them, a share of the node's only
  /// copy, or a part of the sharded weights with the two largest stages, which are gathered for a pass.
  func teacherWeights(ranks: Int, ofNode nodeSize: Int) -> Int {
    guard let config = teacher?.config else { return 0 }
    let count = CLIP<Float>.layout(config).count
    switch run.teacher?.placement ?? .replicated {
    case .replicated: return count
    case .node: return count / nodeSize
    case .sharded:
      let stages = CLIP<Float>.stages(config).map { $0.reduce(0) { $0 + $1.count } }.sorted()
      return count / min(run.teacher?.shardOver ?? ranks, ranks) + stages.suffix(2).reduce(0, +)
    }
  }

  /// Measures what this process holds besides the run's own memory, without the teacher's weights. Call it when the
  /// inputs of the run have been read and its model has not been allocated.
  mutating func measureProgram(beside weights: TeacherWeights?, over ranks: Communicator) {
    program = ProgramMemory.measure()
    guard let weights, teacher != nil else { return }
    let held =
      weights.shared > 0
      ? min(weights.shared, Int(ProcessMemory.windows * 1_048_576))
      : 4 * teacherWeights(ranks: ranks.size, ofNode: ranks.nodeSize)
    program = max(program - held, 0)
  }
}

/// The lengths and tokens of some of a run's captions, on which the cost of the text tower depends.
struct CaptionSample: Sendable {
  /// The number of tokens in each caption, both ends included.
  let lengths: [Int]
  /// The number of captions of each image in a step.
  let perImage: Int
  /// For each token that occurs, the number of captions that contain it.
  private let occurrences: [Int]

  init(_ captions: [[Int32]], perImage: Int = 1) {
    lengths = captions.map(\.count)
    self.perImage = perImage
    var found: [Int32: Int] = [:]
    for caption in captions { for token in Set(caption) { found[token, default: 0] += 1 } }
    occurrences = Array(found.values)
  }

  var mean: Double { Double(lengths.reduce(0, +)) / Double(max(lengths.count, 1)) }
  var longest: Int { lengths.max() ?? 0 }

  /// Returns how many tokens `b` captions hardly ever exceed: b · mean + 4 √b · deviation, at most b · longest.
  func tokens(of b: Int) -> Int {
    let mean = mean
    let variance = lengths.reduce(0.0) { $0 + pow(Double($1) - mean, 2) } / Double(max(lengths.count, 1))
    return min(Int((Double(b) * mean + 4 * (Double(b) * variance).squareRoot()).rounded(.up)), b * longest)
  }

  /// Returns the expected number of different tokens in `b` captions. If a share q of the captions contains a token,
  /// and captions are independent, this is Σ 1 − (1 − q)^b over the tokens.
  func differentTokens(in b: Int) -> Double {
    let count = Double(lengths.count)
    return occurrences.reduce(0) { $0 + 1 - pow(1 - Double($1) / count, Double(b)) }
  }
}
