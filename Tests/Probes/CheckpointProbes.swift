import Dist
import Foundation
import Tensor

/// Checkpoints of a small model in which every number is a function of parameter, element and step. Those of even steps
/// have a moving average.
let checkpointProbes: [String: Scenario] = [
  // FOLDER STEP [KEEP [KEEP-EVERY]]
  "checkpoint-write": { communicator, arguments in
    let retention = CheckpointRetention(
      newest: arguments.count > 2 ? Int(arguments[2])! : nil, every: arguments.count > 3 ? Int(arguments[3])! : nil)
    let writer = CheckpointWriter(runFolder: arguments[0], retention: retention, communicator: communicator)
    let step = Int(arguments[1])!
    let receipt = try writer.write(state(step, communicator), record(step))
    say("\(communicator.rank): \(URL(filePath: receipt.folder).lastPathComponent) \(receipt.notRemoved)")
    return 0
  },
  // FOLDER STEP NODES: ranks write one part with all others that have the same remainder by NODES.
  "checkpoint-write-nodes": { communicator, arguments in
    let node = try communicator.split(group: communicator.rank % Int(arguments[2])!)
    let writer = CheckpointWriter(
      runFolder: arguments[0], retention: .init(newest: nil), communicator: communicator, node: node)
    let step = Int(arguments[1])!
    _ = try writer.write(state(step, communicator), record(step))
    return 0
  },
  // FOLDER STEP STAGE RANK: the given rank is killed as soon as its thread reaches the stage.
  "checkpoint-killed": { communicator, arguments in
    let stage = CheckpointWriter.Stage(rawValue: arguments[2])!
    let victim = Int(arguments[3])!
    let background = try BackgroundCheckpoints(inBackground: true, over: communicator) { ranks in
      var writer = CheckpointWriter(runFolder: arguments[0], retention: .init(newest: 1), communicator: ranks)
      writer.reached = { if $0 == stage, ranks.rank == victim { kill(getpid(), SIGKILL) } }
      return writer
    }
    let step = Int(arguments[1])!
    try background.save(state(step, communicator), record(step))
    try background.wait()
    return 0
  },
  // FOLDER: saves three times, and overwrites the arena while the write is suspended half-way.
  "checkpoint-background": { communicator, arguments in
    let gate = DispatchSemaphore(value: 0)
    let background = try BackgroundCheckpoints(inBackground: true, over: communicator) { ranks in
      var writer = CheckpointWriter(runFolder: arguments[0], retention: .init(newest: nil), communicator: ranks)
      writer.reached = { if $0 == .partWritten { gate.wait() } }
      return writer
    }
    var told: [Int] = []
    for step in 1...3 {
      let arena = Arena(step, communicator)
      // The write of the previous step continues, and `save` waits for it.
      if step > 1 { gate.signal() }
      try background.save(arena.state, record(step))
      for tensor in [arena.values, arena.first, arena.second, arena.average] { fill(tensor, -.infinity) }
      told += try background.finished().map(\.step)
      guard told == Array(1..<step) else { throw Different(what: "step", place: step, found: 0) }
    }
    gate.signal()
    try background.wait()
    told += try background.finished().map(\.step)
    for step in told {
      let path = "\(arguments[0])/step-0000000\(step)"
      try compare(try Checkpoint.open(path, communicator: communicator), step: step, communicator)
    }
    say("\(communicator.rank): \(told)")
    return 0
  },
  // FOLDER: the last rank's file may not grow; the error is reported by a later step.
  "checkpoint-background-limited": { communicator, arguments in
    limitLastRank(communicator)
    let background = try BackgroundCheckpoints(inBackground: true, over: communicator) {
      CheckpointWriter(runFolder: arguments[0], retention: .init(newest: 1), communicator: $0)
    }
    try background.save(state(1, communicator), record(1))
    // The other ranks wait here until the job ends.
    _ = try? background.wait()
    return try background.finished().isEmpty ? 72 : 71
  },
  // FOLDER: the file system has 1,000 free bytes.
  "checkpoint-full": { communicator, arguments in
    var writer = CheckpointWriter(runFolder: arguments[0], retention: .init(newest: 1), communicator: communicator)
    writer.available = { _ in 1000 }
    _ = try writer.write(state(1, communicator), record(1))
    return 0
  },
  // FOLDER: the last rank's file may not grow beyond 1,000 bytes.
  "checkpoint-limited": { communicator, arguments in
    limitLastRank(communicator)
    let writer = CheckpointWriter(runFolder: arguments[0], retention: .init(newest: 1), communicator: communicator)
    _ = try writer.write(state(1, communicator), record(1))
    return 0
  },
  // FOLDER STEP: reads the checkpoint into another layout and compares every number.
  "checkpoint-read": { communicator, arguments in
    let checkpoint = try Checkpoint.open(arguments[0], communicator: communicator)
    try compare(checkpoint, step: Int(arguments[1])!, communicator)
    say("\(communicator.rank): equal")
    return 0
  },
  // FOLDER STEP: reads what a rank of a resumed run owns, compares it, and says how many parts it opened.
  "checkpoint-resume": { communicator, arguments in
    let checkpoint = try Checkpoint.open(arguments[0], communicator: communicator)
    let expected = Arena(Int(arguments[1])!, communicator)
    let found = Arena(-1, communicator)
    for tensor in [found.values, found.first, found.second, found.average] { fill(tensor, -1) }
    let average = expected.isAveraged ? (ranges: expected.ranges, values: found.average) : nil
    let reads = try checkpoint.readState(
      expected.entries, ranges: expected.ranges, values: found.values, first: found.first, second: found.second,
      average: average)
    let own = expected.ranges.flatMap { Array($0) }
    for place in 0..<expected.values.count {
      let index = own.firstIndex(of: place)
      let isOwned = index != nil && expected.entries.contains { $0.range.contains(place) }
      guard found.values[place] == (isOwned ? expected.values[place] : -1) else {
        throw Different(what: "value", place: place, found: found.values[place])
      }
      guard isOwned, let index else { continue }
      let same =
        found.first[index] == expected.first[index] && found.second[index] == expected.second[index]
        && (!expected.isAveraged || found.average[index] == expected.average[index])
      guard same else { throw Different(what: "moment", place: place, found: found.first[index]) }
    }
    say("\(communicator.rank): \(reads.parts) parts \(reads.bytes) bytes")
    return 0
  },
  // FOLDER: finds the checkpoint from which a run would resume.
  "checkpoint-newest": { communicator, arguments in
    let (found, unsound) = try Checkpoint.newestSound(in: arguments[0], communicator: communicator)
    if let found { try compare(found, step: found.manifest.record.step, communicator) }
    let passedOver = unsound.map { URL(filePath: $0.folder).lastPathComponent }
    say("\(communicator.rank): \(found?.manifest.record.step ?? -1) \(passedOver)")
    return 0
  },
]

private let parameters: [(name: String, shape: Shape)] = [
  ("visual.conv1.weight", Shape(3, 2, 2, 2)), ("logit_scale", Shape()), ("none", Shape(0, 3)),
  ("token_embedding.weight", Shape(7, 5)), ("ln_final.bias", Shape(5)),
]

private enum Kind: Float {
  case value = 1
  case first = 2
  case second = 3
  case average = 4
}

private func number(_ kind: Kind, _ parameter: String, _ element: Int, _ step: Int) -> Float {
  let index = parameters.firstIndex { $0.name == parameter }!
  return kind.rawValue * 1e5 + Float(index) * 1e4 + Float(step) + Float(element) / 64
}

private func record(_ step: Int) -> CheckpointRecord {
  CheckpointRecord(
    step: step, samples: step * 32, run: #"{"name":"probe \"x\""}"#,
    arrays: [
      .init(name: "odd", shape: [2, 2], values: [0.1, .infinity, -.infinity, .leastNonzeroMagnitude]),
      .init(name: "steps", shape: [], values: [Double(step)]),
    ], version: "0.0.1", kernel: "SkylakeX", threads: 2)
}

private func state(_ step: Int, _ communicator: Communicator) -> CheckpointState { Arena(step, communicator).state }

/// An arena in which each parameter begins at a multiple of 16. Each rank owns a share of every bucket of 20 numbers.
private struct Arena {
  var entries: [NamedSlice] = []
  let ranges: [Range<Int>]
  let values: Tensor<Float>
  let first: Tensor<Float>
  let second: Tensor<Float>
  let average: Tensor<Float>
  let isAveraged: Bool

  var state: CheckpointState {
    CheckpointState(
      entries: entries, values: values, ranges: ranges, firstMoment: first, secondMoment: second,
      average: isAveraged ? average : nil)
  }

  init(_ step: Int, _ communicator: Communicator) {
    var count = 0
    for (name, shape) in parameters {
      entries.append(NamedSlice(name: name, shape: shape, offset: count))
      count += (shape.count + 15) / 16 * 16
    }
    ranges = stride(from: 0, to: count, by: 20).map { start in
      let share = communicator.slice(of: min(20, count - start))
      return start + share.lowerBound..<start + share.upperBound
    }
    let own = ranges.flatMap { Array($0) }
    (values, first, second) = (Tensor(Shape(count)), Tensor(Shape(own.count)), Tensor(Shape(own.count)))
    average = Tensor(Shape(own.count))
    isAveraged = step % 2 == 0
    for entry in entries {
      for place in entry.range {
        values[place] = number(.value, entry.name, place - entry.offset, step)
        guard let index = own.firstIndex(of: place) else { continue }
        first[index] = number(.first, entry.name, place - entry.offset, step)
        second[index] = number(.second, entry.name, place - entry.offset, step)
        average[index] = number(.average, entry.name, place - entry.offset, step)
      }
    }
  }
}

/// Limits the files of the last rank to 1,000 bytes.
private func limitLastRank(_ communicator: Communicator) {
  guard communicator.rank == communicator.size - 1 else { return }
  signal(SIGXFSZ, SIG_IGN)
  var limit = rlimit(rlim_cur: 1000, rlim_max: 1000)
  guard unsafe setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit) == 0 else { exit(71) }
}

/// Reads into an arena with the parameters in reverse order, a gap of 3 before each, and −1 in every place, and
/// compares every number.
private func compare(_ checkpoint: Checkpoint, step: Int, _ communicator: Communicator) throws {
  var entries: [NamedSlice] = []
  var count = 0
  for (name, shape) in parameters.reversed() {
    entries.append(NamedSlice(name: name, shape: shape, offset: count + 3))
    count += 3 + shape.count
  }
  // This rank owns two ranges with a gap between them.
  let share = communicator.slice(of: count)
  let ranges = [share.prefix(share.count / 2), share.suffix(share.count / 3)].map { $0.startIndex..<$0.endIndex }
  let own = ranges.flatMap { Array($0) }
  func empty(_ count: Int) -> Tensor<Float> { Tensor(Shape(count), [Float](repeating: -1, count: count)) }
  let (values, first, second) = (empty(count), empty(own.count), empty(own.count))
  let (shared, state) = (empty(count), empty(count))
  try checkpoint.readValues(entries, into: values)
  try checkpoint.readValues(entries, into: shared, over: communicator)
  guard checkpoint.manifest.isAveraged == (step % 2 == 0) else { throw Different(what: "average", place: -1, found: 0) }
  let average = checkpoint.manifest.isAveraged ? (all: empty(count), own: empty(own.count)) : nil
  if let average {
    try checkpoint.readValues(entries, into: average.all, over: communicator, averaged: true)
  }
  _ = try checkpoint.readState(
    entries, ranges: ranges, values: state, first: first, second: second,
    average: average.map { (ranges: ranges, values: $0.own) })
  for place in 0..<count {
    let entry = entries.first { $0.range.contains(place) }
    func wanted(_ kind: Kind) -> Float { entry.map { number(kind, $0.name, place - $0.offset, step) } ?? -1 }
    guard values[place] == wanted(.value) else { throw Different(what: "value", place: place, found: values[place]) }
    guard shared[place] == values[place] else { throw Different(what: "share", place: place, found: shared[place]) }
    if let average, average.all[place] != wanted(.average) {
      throw Different(what: "average", place: place, found: average.all[place])
    }
    let isOwned = own.contains(place)
    guard state[place] == (isOwned ? values[place] : -1) else {
      throw Different(what: "own value", place: place, found: state[place])
    }
    guard let index = own.firstIndex(of: place) else { continue }
    if let average, average.own[index] != wanted(.average) {
      throw Different(what: "own average", place: place, found: average.own[index])
    }
    let moments = (first[index], second[index])
    guard moments == (wanted(.first), wanted(.second)) else {
      throw Different(what: "moment", place: place, found: moments.0)
    }
  }
  guard checkpoint.manifest.record == record(step) else { throw Different(what: "record", place: step, found: 0) }
}

private struct Different: Error {
  var what: String
  var place: Int
  var found: Float
}
