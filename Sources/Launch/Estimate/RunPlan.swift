import Dist
import Foundation
import Model
import Tensor

/// What a run will need on so many ranks of so many nodes, and how long its steps will take.
struct RunPlan: Codable {
  /// One collective of a step, all its calls together.
  struct Collective: Codable, Equatable {
    var part: String
    var collective: RunEstimate.Payload.Kind
    var calls: Int
    /// Bytes that a rank hands over, and that come from others.
    var handed: Int
    var received: Int
  }

  /// Billions of operations of a rank's step.
  struct Work: Codable {
    var forward: Double
    var backward: Double
    var objective: Double
    var teacher: Double
  }

  /// Seconds.
  struct Time: Codable {
    var compute: Double
    var update: Double
    var exchange: Double
    var embeddings: Double
    var total: Double
  }

  /// The run on another number of ranks.
  struct Scale: Codable {
    var ranks: Int
    var nodes: Int
    /// With the run's batch: pairs of the rank that has most, what it holds, and how much of one rank's speed each has.
    var rows: Int
    var memory: Int
    var seconds: Double
    var efficiency: Double
    /// With as many pairs a rank as in this plan. Above 1 where the update counts, of which ranks do a part each.
    var batch: Int
    var batchSeconds: Double
    var batchEfficiency: Double
  }

  var version = Release.version
  var run: String
  var ranks: Int
  var nodes: Int
  var batch: Int
  var parameters: Int
  /// What `precision: auto` takes, and by which processors; nil where the run file names a precision.
  var precision: String?
  var memory: [RunEstimate.Part]
  var memoryTotal: Int
  var collectives: [Collective]
  var tokenRows: RunEstimate.TokenRows
  var gflop: Work
  /// Of one rank's matrix products, a second.
  var gflops: Double
  /// The same of rounded operands; nil where the run has none.
  var gflopsBf16: Double?
  var seconds: Time
  var samplesPerSecond: Double
  var efficiency: Double
  var scaling: [Scale]

  /// - Parameters:
  ///   - cost: ranks, nodes and what is between them.
  ///   - source: where the processors are whose rates are taken: `this machine`.
  init(_ header: RunHeader, _ cost: ClusterCost, _ rates: ProductRates, on source: String = "this machine") {
    let batch = header.run.batch.global
    let plan = StepEstimate(header, cost, batch: batch, rates: rates)
    run = header.run.name
    (ranks, nodes, self.batch) = (cost.ranks, cost.nodes, batch)
    parameters = header.parameters.parameterCount
    precision = header.precision.isEmpty ? nil : header.precision.joined(separator: "; ") + ", as on \(source)"
    memory = plan.estimate.memory
    memoryTotal = plan.estimate.memoryBytes
    collectives = Self.collectives(plan.estimate.payloads)
    tokenRows = plan.estimate.tokenRows
    let work = plan.work
    gflop = Work(
      forward: work.forward / 1e9, backward: work.backward / 1e9, objective: work.objective / 1e9,
      teacher: work.teacher / 1e9)
    gflops = rates.fp32 / 1e9
    gflopsBf16 = header.precisions.contains(.bf16) ? rates.bf16 / 1e9 : nil
    let time = plan.time
    seconds = Time(
      compute: time.compute, update: time.update, exchange: time.exchange, embeddings: time.embeddings,
      total: time.total)
    samplesPerSecond = Double(batch) / time.total
    let alone = StepEstimate(header, cost.with(ranks: 1), batch: batch, rates: rates).time.total
    efficiency = alone / (Double(cost.ranks) * time.total)
    scaling = Self.scales(upTo: batch, cost.ranks).map { ranks in
      let other = cost.with(ranks: ranks)
      let same = StepEstimate(header, other, batch: batch, rates: rates)
      let grown = plan.rows * ranks
      let weak = StepEstimate(header, other, batch: grown, rates: rates)
      let one = StepEstimate(header, cost.with(ranks: 1), batch: plan.rows, rates: rates).time.total
      return Scale(
        ranks: ranks, nodes: other.nodes, rows: same.rows, memory: same.estimate.memoryBytes,
        seconds: same.time.total, efficiency: alone / (Double(ranks) * same.time.total), batch: grown,
        batchSeconds: weak.time.total, batchEfficiency: one / weak.time.total)
    }
  }

  /// Powers of 2 up to 4096 and the number asked for.
  private static func scales(upTo batch: Int, _ ranks: Int) -> [Int] {
    Set((0...12).map { 1 << $0 } + [ranks]).filter { $0 <= max(batch, ranks) }.sorted()
  }

  private static func collectives(_ payloads: [RunEstimate.Payload]) -> [Collective] {
    payloads.reduce(into: []) { list, payload in
      if let index = list.firstIndex(where: { $0.part == payload.part && $0.collective == payload.kind }) {
        list[index].calls += 1
        list[index].handed += payload.handed
        list[index].received += payload.received
      } else {
        list.append(
          Collective(
            part: payload.part, collective: payload.kind, calls: 1, handed: payload.handed,
            received: payload.received))
      }
    }
  }

  /// One JSON object on one line.
  var json: String {
    get throws {
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
      return String(decoding: try encoder.encode(self), as: UTF8.self)
    }
  }
}

/// A run on so many ranks with such a batch: what its fullest rank holds and does.
struct StepEstimate {
  let rows: Int
  let estimate: RunEstimate
  let work: StepWork
  let time: StepTime

  init(_ header: RunHeader, _ cost: ClusterCost, batch: Int, rates: ProductRates) {
    var header = header
    header.run.batch.global = batch
    rows = (batch + cost.ranks - 1) / cost.ranks
    estimate = header.estimate(ranks: cost.ranks, ofNode: cost.ranksOfNode)
    let tokens = header.captions?.mean ?? Double(header.config.text.contextLength)
    work = StepWork(
      header.run, header.config, frozen: header.frozen,
      teacher: header.teacher?.cache == nil ? header.teacher?.config : nil,
      teacherWidth: header.teacher?.config.embedding, rows: rows, tokens: tokens)
    time = StepTime(work, estimate, cost, rates, overlaps: header.run.reduce.overlap)
  }
}

extension ClusterCost {
  /// As many ranks a node, on as many nodes as that takes.
  func with(ranks other: Int) -> ClusterCost {
    var cost = self
    (cost.ranks, cost.nodes) = (other, (other + ranksOfNode - 1) / ranksOfNode)
    return cost
  }
}
