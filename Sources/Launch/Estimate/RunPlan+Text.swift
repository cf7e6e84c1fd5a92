import Foundation
import Tensor

extension RunPlan {
  /// The plan for people; `model` is what the header says of it.
  func text(model: String) -> String {
    func column(_ text: String, _ width: Int) -> String { text.padding(toLength: width, withPad: " ", startingAt: 0) }
    func right(_ text: String, _ width: Int) -> String {
      String(repeating: " ", count: max(0, width - text.count)) + text
    }
    func short(_ value: Double) -> String { Figures.significant(value, 3) }
    var lines = [
      "kinship \(version)  plan of \(run)  \(ranks) \(ranks == 1 ? "rank" : "ranks") on \(nodes) "
        + "\(nodes == 1 ? "node" : "nodes"), \(batch) pairs a step",
      "model  \(model)",
    ]
    if let precision { lines.append("precision \(precision)") }
    lines.append("memory \(Figures.bytes(memoryTotal)) a rank")
    lines += memory.map { "         " + column($0.name, 38) + right(Figures.bytes($0.bytes), 10) }
    lines.append(
      "work   \(short(gflop.forward + gflop.backward + gflop.objective + gflop.teacher)) GFLOP a rank and step: "
        + "forward \(short(gflop.forward)), backward \(short(gflop.backward)), objective \(short(gflop.objective)), "
        + "teacher \(short(gflop.teacher))")
    lines.append(
      collectives.isEmpty
        ? "wire   nothing: there are no other ranks"
        : "wire   " + column("in a step", 28) + column("collective", 16) + right("calls", 7)
          + right("handed over", 14) + right("received", 12))
    lines += collectives.map {
      "         " + column($0.part, 26) + column($0.collective.rawValue, 16) + right("\($0.calls)", 7)
        + right(Figures.bytes($0.handed), 14) + right(Figures.bytes($0.received), 12)
    }
    lines.append(
      "tokens a rank touches at most \(tokenRows.bound) of \(tokenRows.all) rows of the table"
        + (tokenRows.expected.map { ", \(Figures.fixed($0, 0)) expected" } ?? "")
        + "; of others' it receives at most \(Figures.bytes(tokenRows.received))"
        + (tokenRows.expectedReceived.map { ", \(Figures.bytes($0)) expected" } ?? ""))
    lines.append(
      "step   \(short(seconds.total)) s: computing \(short(seconds.compute)) (\(ratesText)), "
        + "updating \(short(seconds.update)), waiting for gradients and parameters "
        + "\(short(seconds.exchange)), for embeddings and sums \(short(seconds.embeddings))")
    lines.append(
      "       \(short(samplesPerSecond)) samples/s, efficiency \(Figures.fixed(100 * efficiency, 0)) % of one rank's")
    lines += [
      "",
      "               the run's batch:                           \(rowsText) pairs a rank:",
      " ranks  nodes    rows    memory   step s  efficiency       batch   step s  efficiency",
    ]
    lines += scaling.map { scale in
      right("\(scale.ranks)", 6) + right("\(scale.nodes)", 7) + right("\(scale.rows)", 8)
        + right(Figures.bytes(scale.memory), 10) + right(short(scale.seconds), 9)
        + right("\(Figures.fixed(100 * scale.efficiency, 0)) %", 12) + right("\(scale.batch)", 12)
        + right(short(scale.batchSeconds), 9) + right("\(Figures.fixed(100 * scale.batchEfficiency, 0)) %", 12)
    }
    return lines.joined(separator: "\n")
  }

  private var ratesText: String {
    func of(_ rate: Double, _ precision: ComputePrecision) -> String {
      "\(Figures.fixed(100 * StepTime.efficiency(precision), 0)) % of \(Figures.significant(rate, 3)) GFLOP/s"
    }
    return "at " + of(gflops, .fp32) + (gflopsBf16.map { ", in bf16 \(of($0, .bf16))" } ?? "")
  }

  private var rowsText: String { "\((batch + ranks - 1) / ranks)" }
}
