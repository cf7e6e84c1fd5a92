import Dist
import Foundation
import Model
import Tensor

/// The memory that the processes of this node may still take: what is available on the machine, swap included, or what
/// is left to their control group, or to one that contains it, whichever is less.
enum NodeMemory {
  /// The files of a control group in version 2 and in version 1: its limit, its use, and the lines of its statistics
  /// with the pages of files, which the system drops when memory is short. `mark` precedes its path.
  private static let versions = [
    (
      root: "/sys/fs/cgroup", mark: "0::", limit: "memory.max", used: "memory.current",
      files: ["inactive_file", "active_file"]
    ),
    (
      root: "/sys/fs/cgroup/memory", mark: ":memory:", limit: "memory.limit_in_bytes", used: "memory.usage_in_bytes",
      files: ["total_inactive_file", "total_active_file"]
    ),
  ]

  /// Returns the bytes that each of `ranks` processes of this node, with `threads` threads that compute, may take; nil
  /// if the system does not say. `root` stands before the paths of the system's files.
  static func share(ofRanks ranks: Int, threads: Int = Threads.count, root: String = "") -> Int? {
    let parts = ["MemAvailable:", "SwapFree:"].map { ProcessMemory.number($0, in: "\(root)/proc/meminfo") * 1024 }
    guard parts[0] > 0 else { return nil }
    let machine = parts[0] + parts[1]
    let node = groups(root).reduce(Int(machine), min) / ranks
    return min(node, addresses(root, threads) ?? node)
  }

  /// Returns the bytes that are left to each control group that limits this process.
  private static func groups(_ root: String) -> [Int] {
    let lines = (text("\(root)/proc/self/cgroup") ?? "").split(separator: "\n")
    return versions.flatMap { version -> [Int] in
      guard let line = lines.first(where: { $0.contains(version.mark) }),
        let mark = line.range(of: version.mark)
      else { return [] }
      var names = line[mark.upperBound...].split(separator: "/")
      var left: [Int] = []
      // The path may be the host's, of which a container sees only the last part of the tree: its own group is the
      // root.
      while true {
        let folder = ([root + version.root] + names.map(String.init)).joined(separator: "/")
        if let limit = number("\(folder)/\(version.limit)"), let used = number("\(folder)/\(version.used)") {
          let files = version.files.reduce(0.0) { $0 + ProcessMemory.number("\($1) ", in: "\(folder)/memory.stat") }
          left.append(max(limit - max(used - Int(files), 0), 0))
        }
        guard names.popLast() != nil else { return left }
      }
    }
  }

  /// Returns the bytes of addresses that this process may still take (`ulimit -v`); nil if there is no limit. OpenBLAS
  /// reserves 128 MiB for each thread that multiplies, and asks forever where the limit leaves none. As much as for one
  /// of them is left to the stacks and heaps of all other threads.
  private static func addresses(_ root: String, _ threads: Int) -> Int? {
    let line = text("\(root)/proc/self/limits")?.split(separator: "\n").first { $0.hasPrefix("Max address space") }
    guard let limit = line.flatMap({ Int($0.split(whereSeparator: \.isWhitespace)[3]) }) else { return nil }
    let taken = Int(ProcessMemory.number("VmSize:", in: "\(root)/proc/self/status") * 1024)
    return max(limit - taken - (threads + 1) * 128 << 20, 0)
  }

  private static func text(_ path: String) -> String? { try? String(contentsOfFile: path, encoding: .utf8) }
  /// Returns the number that is a file's contents; nil for the word `max`, and if there is no such file.
  private static func number(_ path: String) -> Int? {
    text(path).flatMap { Int($0.trimmingCharacters(in: .whitespacesAndNewlines)) }
  }
}

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
