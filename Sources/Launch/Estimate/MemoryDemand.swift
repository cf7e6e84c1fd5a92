import Dist
import Model
import Tensor

/// The memory that something is about to take in each of the ranks.
struct MemoryDemand {
  /// What takes it, as the subject of a sentence.
  let subject: String
  let parts: [RunEstimate.Part]
  /// What the user may change.
  let advice: String

  /// Throws a `UserError` if there is not enough memory for it beside what the processes hold already. With `ranks`,
  /// those of a node share its memory, all of them must call it before one of them allocates, and all throw the same.
  func require(over ranks: Communicator? = nil) throws {
    let count = ranks?.nodeSize ?? 1
    let bytes = parts.reduce(0) { $0 + $1.bytes }
    let room = NodeMemory.share(ofRanks: count) ?? .max
    var figures = [bytes - room, -room]
    try ranks?.allReduce(&figures, .maximum)
    guard figures[0] > 0 else { return }
    let holders = count == 1 ? "are free" : "are free for each of the \(count) ranks of a node"
    throw UserError(
      "\(subject) takes about \(Figures.bytes(bytes)) of memory\(ranks == nil ? "" : " a rank") "
        + "(\(RunEstimate.list(parts))), and \(Figures.bytes(-figures[1])) \(holders): \(advice)",
      status: .usage, isShared: ranks != nil)
  }
}

extension CLIPConfig {
  /// Makes sure that a model of these sizes fits into memory, with the buffers of forwards of `pairs` pairs; see
  /// `MemoryDemand`. `name` says which model it is, and `holders` how many ranks hold its weights together.
  func requireMemory(_ name: String, pairs: Int = 0, holders: Int = 1, over ranks: Communicator? = nil) throws {
    var parts = try memory(pairs: pairs, use: .forward)
    parts[0].bytes /= holders
    let demand = MemoryDemand(
      subject: "the model \(name)", parts: parts,
      advice: "take a machine with more memory, or start fewer ranks on a node")
    try demand.require(over: ranks)
  }

  /// Lists the memory of a model that computes `pairs` pairs at a time, of them all with one forward, or with training.
  func memory(
    pairs: Int, use: TowerUse, recompute: Recompute = .none, precision: ComputePrecision = .fp32
  ) throws -> [RunEstimate.Part] {
    try requireCountable(pairs: pairs)
    let weights = 4 * CLIP<Float>.layout(self).count
    guard pairs > 0 else { return [.init(name: "weights", bytes: weights)] }
    let context = text.contextLength
    let buffers = bufferBytes(
      images: pairs, captions: (pairs, pairs * context, context), threads: Threads.count, uses: (use, use),
      recompute: recompute, precision: precision)
    return [
      .init(
        name: use == .forward ? "weights" : "weights, gradients and moments",
        bytes: use == .forward ? weights : 4 * weights),
      .init(name: "images", bytes: 12 * pairs * vision.imageSize * vision.imageSize),
      .init(name: "image tower", bytes: buffers.images), .init(name: "text tower", bytes: buffers.captions),
    ]
  }

  /// Throws a `UserError` if the bytes of so many pairs at a time might exceed 64 bits, by a bound that is far above
  /// the estimates and is computed in Double.
  func requireCountable(pairs: Int) throws {
    let (pairs, side, tokens) = (Double(pairs), Double(vision.imageSize), Double(vision.tokens))
    func widest(_ sizes: BlockSizes, _ width: Int) -> Double {
      Double(max(width, sizes.hidden.max() ?? 0, sizes.headWidth * (sizes.heads.max() ?? 0)))
    }
    let (rows, width) =
      vision.stages == nil
      ? (tokens, widest(vision.blockSizes, vision.width)) : (side * side, Double(vision.outputWidth))
    let context = Double(text.contextLength)
    let images = pairs * (16 * rows * width * Double(vision.layers) + 1024 * side * side)
    let texts = pairs * 16 * context * widest(text.blockSizes, text.width) * Double(text.layers)
    let scores = 2048 * (tokens * tokens + context * context)
    guard images + texts + scores < 0x1p58 else {
      throw UserError(
        "the memory of \(Int(pairs)) pairs of images of \(vision.imageSize) px and captions of \(text.contextLength) "
          + "tokens in this model is beyond any machine's: lower the batch or the model's sizes", status: .usage)
    }
  }
}

extension RunShape {
  /// Does the same for a run, and for a plan of it with the global batch `batch`.
  func requireCountable(batch: Int) throws {
    for config in [config, loadedTeacher?.config].compactMap({ $0 }) {
      try config.requireCountable(pairs: run.batch.global)
    }
    let widths = Double(config.embedding) + Double(teacher?.width ?? 0)
    guard Double(batch) * (ensemble.reduce(widths) { $0 + Double($1) }) < 0x1p52 else {
      throw UserError(
        "the embeddings of \(batch) pairs are beyond any machine's memory: lower batch.global", status: .usage)
    }
  }

  /// Makes sure that the run fits into memory beside what the ranks hold already, before any of it is allocated. Every
  /// rank must call it.
  func requireMemory(over ranks: Communicator) throws {
    var shape = self
    shape.program = 0
    let demand = MemoryDemand(
      subject: "this run", parts: shape.estimate(ranks: ranks.size, ofNode: ranks.nodeSize).memory,
      advice: "lower batch.micro_batch_size, batch.global or the model's sizes, set batch.activation_checkpointing to "
        + "blocks, or start fewer ranks on a node; kinship plan shows what more nodes would need")
    try demand.require(over: ranks)
  }
}
