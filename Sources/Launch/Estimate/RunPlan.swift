import Dist
import Foundation
import Model
import Tensor

/// The estimate of a run on several numbers of ranks. The properties' names are the keys of `kinship plan --json`.
struct RunPlan: Codable {
  /// All calls of one collective in a step that carry the same part.
  struct Collective: Codable, Equatable {
    var part: String
    var collective: RunEstimate.Payload.Kind
    var calls: Int
    /// The bytes that a rank hands over, and those that come from other ranks.
    var handed, received: Int
    /// The bytes that enter a node from all others, by the same model as the seconds.
    var intoNode: Int
  }

  /// Billions of operations in a rank's step.
  struct Work: Codable { var forward, backward, objective, teacher: Double }

  /// The estimate for another number of ranks.
  struct Scale: Codable {
    var ranks, nodes: Int
    /// With the run's global batch: the pairs and the memory of the rank that has the most, the seconds of a step, and
    /// the speed of each rank relative to a single rank.
    var rows, memory: Int
    var seconds, efficiency: Double
    /// The same with as many pairs per rank as in this plan. The efficiency can exceed 1, because each rank updates
    /// only its part of the parameters.
    var batch: Int
    var batchSeconds, batchEfficiency: Double
  }

  /// The largest number of ranks of the scaling, besides the plan's own, is 2 to this power.
  private static let mostDoublings = 12

  var version = Release.version
  var run: String
  var ranks, nodes, batch, parameters: Int
  /// The choice of `precision: auto`, and the processors that it depends on; nil if the run file names a precision.
  var precision: String?
  var memory: [RunEstimate.Part]
  var memoryTotal: Int
  /// What retrieval evaluations take beside the model: those of the run whose datasets are there, and one that was
  /// asked for.
  var evaluations: [EvaluationEstimate]
  var collectives: [Collective]
  /// The number of levels in which gradients are reduced and parameters gathered, and the form of gradients on their
  /// way (`reduce.levels`, `reduce.wire`).
  var levels: Int
  var wire: String
  /// The way of gradients and parameters in words; nil if it is that of one level in fp32.
  var route: String?
  /// The bytes that a node sends to other nodes in a step.
  var nodeBytes: Int
  var tokenRows: RunEstimate.TokenRows
  var gflop: Work
  /// The rate of one rank's matrix products in GFLOP/s.
  var gflops: Double
  /// The rate of bf16 products; nil if the run has none.
  var gflopsBf16: Double?
  var seconds: StepTime
  var samplesPerSecond, efficiency: Double
  var scaling: [Scale]
  /// The limits on this number of ranks, on 1,024 and on 4,096: with the run's global batch, then with as many pairs
  /// per rank as in this plan.
  var limits: [StepLimits]
  /// The hours on named processors; nil if the plan was made without them.
  var hours: RunHours?

  init(
    _ shape: RunShape, _ cost: ClusterCost, _ rates: ProductRates, _ between: BetweenSteps, precision: String?,
    retrievals: [RunPreview.Retrieval] = []
  ) {
    func step(_ cost: ClusterCost, batch: Int) -> StepEstimate { StepEstimate(shape, cost, batch: batch, rates: rates) }
    let global = shape.run.batch.global
    let planned = step(cost, batch: global)
    let estimate = planned.estimate
    (run, self.precision) = (shape.run.name, precision)
    (ranks, nodes, batch, parameters) = (cost.ranks, cost.nodes, global, shape.parameters.parameterCount)
    (memory, memoryTotal, tokenRows) = (estimate.memory, estimate.memoryBytes, estimate.tokenRows)
    evaluations = retrievals.map {
      EvaluationEstimate(
        $0.name, images: $0.images, captions: $0.captions, width: shape.config.embedding, ranks: cost.ranks)
    }
    collectives = Self.collectives(estimate.payloads, cost)
    (levels, wire, route) = (estimate.route.levels, estimate.route.wire.rawValue, estimate.route.text)
    nodeBytes = estimate.nodeBytes(cost)
    let work = planned.work
    gflop = Work(
      forward: work.forward / 1e9, backward: work.backward / 1e9, objective: work.objective / 1e9,
      teacher: work.teacher / 1e9)
    gflops = rates.fp32 / 1e9
    gflopsBf16 = shape.precisions.contains(.bf16) ? rates.bf16 / 1e9 : nil
    seconds = planned.time
    samplesPerSecond = Double(global) / planned.time.total
    let single = cost.with(ranks: 1)
    let alone = step(single, batch: global).time.total
    efficiency = alone / (Double(cost.ranks) * planned.time.total)
    let aloneWithRows = step(single, batch: planned.rows).time.total
    // The powers of 2 up to 4096, and the plan's own number, without those larger than the global batch.
    let scales = Set((0...Self.mostDoublings).map { 1 << $0 } + [cost.ranks]).filter { $0 <= max(global, cost.ranks) }
    scaling = scales.sorted().map { ranks in
      let (other, grown) = (cost.with(ranks: ranks), planned.rows * ranks)
      let (same, weak) = (step(other, batch: global), step(other, batch: grown))
      return Scale(
        ranks: ranks, nodes: other.nodes, rows: same.rows, memory: same.estimate.memoryBytes,
        seconds: same.time.total, efficiency: alone / (Double(ranks) * same.time.total), batch: grown,
        batchSeconds: weak.time.total, batchEfficiency: aloneWithRows / weak.time.total)
    }
    limits = [false, true].flatMap { isWeak in
      let model = LimitModel(shape: shape, rates: rates, between: between, isWeak: isWeak)
      return scales.intersection([cost.ranks, 1 << 10, 1 << 12]).sorted().map { ranks in
        model.limits(cost.with(ranks: ranks), batch: isWeak ? planned.rows * ranks : global)
      }
    }
  }

  /// Returns the largest global batch in a plan: all ranks of the largest scale have as many pairs as the plan's.
  static func largestBatch(_ global: Int, ranks: Int) -> Int {
    (global + ranks - 1) / ranks * max(ranks, 1 << mostDoublings)
  }

  private static func collectives(_ payloads: [RunEstimate.Payload], _ cost: ClusterCost) -> [Collective] {
    payloads.reduce(into: []) { list, payload in
      let into = cost.bytesIntoNode(payload)
      if let index = list.firstIndex(where: { $0.part == payload.part && $0.collective == payload.kind }) {
        list[index].calls += 1
        list[index].handed += payload.handed
        list[index].received += payload.received
        list[index].intoNode += into
      } else {
        let (handed, received) = (payload.handed, payload.received)
        list.append(
          Collective(
            part: payload.part, collective: payload.kind, calls: 1, handed: handed, received: received, intoNode: into))
      }
    }
  }

  /// Returns the plan as text. `model` describes the model, as in the run's header.
  func text(model: String) -> String {
    func column(_ text: String, _ width: Int) -> String { text.padding(toLength: width, withPad: " ", startingAt: 0) }
    func short(_ value: Double) -> String { Figures.significant(value, 3) }
    func percent(_ value: Double) -> String { "\(Figures.fixed(100 * value, 0)) %" }
    var lines = [
      "kinship \(version)  plan of \(run)  \(Figures.count(ranks, "rank")) on \(Figures.count(nodes, "node")), "
        + "\(batch) pairs a step",
      "model  \(model)",
    ]
    if let precision { lines.append("precision \(precision)") }
    lines.append("memory \(Figures.bytes(memoryTotal)) a rank")
    lines += memory.map { "         " + column($0.name, 38) + Figures.row((Figures.bytes($0.bytes), 10)) }
    lines += evaluations.map { "       in \($0.text)" }
    let total = gflop.forward + gflop.backward + gflop.objective + gflop.teacher
    lines.append(
      "work   \(short(total)) GFLOP a rank and step: forward \(short(gflop.forward)), "
        + "backward \(short(gflop.backward)), objective \(short(gflop.objective)), teacher \(short(gflop.teacher))")
    lines.append(
      collectives.isEmpty
        ? "wire   nothing: there are no other ranks"
        : "wire   " + column("in a step", 28) + column("collective", 16)
          + Figures.row(("calls", 7), ("handed over", 14), ("received", 12), ("into a node", 14)))
    lines += collectives.map {
      "         " + column($0.part, 26) + column($0.collective.rawValue, 16)
        + Figures.row(
          ("\($0.calls)", 7), (Figures.bytes($0.handed), 14), (Figures.bytes($0.received), 12),
          (Figures.bytes($0.intoNode), 14))
    }
    if let route { lines.append("         " + route) }
    if nodes > 1 { lines.append("         a node sends \(Figures.bytes(nodeBytes)) to other nodes in a step") }
    lines.append(
      "tokens a rank touches at most \(tokenRows.bound) of \(tokenRows.all) rows of the table"
        + (tokenRows.expected.map { ", \(Figures.fixed($0, 0)) expected" } ?? "")
        + "; of others' it receives at most \(Figures.bytes(tokenRows.received))"
        + (tokenRows.expectedReceived.map { ", \(Figures.bytes($0)) expected" } ?? ""))
    lines.append(
      "step   \(short(seconds.total)) s: computing \(short(seconds.compute)) (\(ratesText)), "
        + "updating \(short(seconds.update)), waiting for gradients and parameters \(short(seconds.exchange)), "
        + "for embeddings and sums \(short(seconds.embeddings))")
    lines.append("       \(short(samplesPerSecond)) samples/s, efficiency \(percent(efficiency)) of one rank's")
    lines += [
      "",
      "               the run's batch:                           \((batch + ranks - 1) / ranks) pairs a rank:",
      " ranks  nodes    rows    memory   step s  efficiency       batch   step s  efficiency",
    ]
    lines += scaling.map {
      Figures.row(
        ("\($0.ranks)", 6), ("\($0.nodes)", 7), ("\($0.rows)", 8), (Figures.bytes($0.memory), 10),
        (short($0.seconds), 9), (percent($0.efficiency), 12), ("\($0.batch)", 12), (short($0.batchSeconds), 9),
        (percent($0.batchEfficiency), 12))
    }
    lines += limitLines
    if let hours, !hours.lines.isEmpty { lines += [""] + hours.lines }
    return lines.joined(separator: "\n")
  }

  private var ratesText: String {
    func rate(_ gflops: Double, _ precision: ComputePrecision) -> String {
      "\(Figures.fixed(100 * StepTime.efficiency(precision), 0)) % of \(Figures.significant(gflops, 3)) GFLOP/s"
    }
    return "at " + rate(gflops, .fp32) + (gflopsBf16.map { ", in bf16 \(rate($0, .bf16))" } ?? "")
  }
}
