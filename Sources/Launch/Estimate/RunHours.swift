import Dist
import Model
import Tensor

/// The hours of a whole run on named processors, by their measured steps. The properties' names are keys of
/// `kinship plan --json`.
struct RunHours: Codable, Equatable {
  /// The run on one kind of processor, in one precision.
  struct Row: Codable, Equatable {
    var processor: String
    var precision: ComputePrecision
    /// GFLOP/s of a core in the measured step.
    var gflopsOfCore: Double
    var stepSeconds: Double
    /// Hours of all steps, and those of all nodes together.
    var hours, nodeHours: Double
  }

  var steps, nodes: Int
  /// The cores of each node.
  var cores: Int
  var rows: [Row]
}

extension RunHours {
  /// The most cores that a node may have.
  static let mostCores = 1 << 16

  /// Estimates each processor of the table. All cores of a node count as fast as the two that were measured, and other
  /// batches and sizes of models as efficient. Messages take what `cost` says; evaluations and checkpoints nothing.
  ///
  /// - Parameter precision: the precision of the run; nil for those of the table, as for `precision: auto`.
  init(_ shape: RunShape, _ cost: ClusterCost, steps: Int, cores: Int, precision: ComputePrecision?) throws {
    (self.steps, self.cores, nodes) = (steps, cores, cost.nodes)
    let measured = try MeasuredStep.all.filter { try $0.resembles(shape.config) }
    let coresOfRank = Double(cores) / Double(cost.ranksOfNode)
    rows = try measured.filter { precision == nil || $0.precision == precision }.map { step in
      // A teacher and the objective may compute in the other precision.
      func rate(_ precision: ComputePrecision) throws -> Double {
        let other = measured.first { $0.processor == step.processor && $0.precision == precision }
        // The step's own share of the rate is part of the measurement.
        return try (other ?? step).rateOfCore() * coresOfRank / StepTime.efficiency(precision)
      }
      var shape = shape
      shape.run.precision = PrecisionChoice(step.precision)
      let rates = ProductRates(fp32: try rate(.fp32), bf16: try rate(.bf16))
      let seconds = StepEstimate(shape, cost, batch: shape.run.batch.global, rates: rates).time.total
      let hours = Double(steps) * seconds / 3600
      return Row(
        processor: step.processor, precision: step.precision, gflopsOfCore: try step.rateOfCore() / 1e9,
        stepSeconds: seconds, hours: hours, nodeHours: hours * Double(cost.nodes))
    }
  }

  /// The table as lines of text; empty if no step of such a model and precision was measured.
  var lines: [String] {
    guard !rows.isEmpty else { return [] }
    func short(_ value: Double) -> String { value < 1000 ? Figures.significant(value, 3) : Figures.fixed(value, 0) }
    let place = "\(Figures.count(nodes, "node")) with \(Figures.count(cores, "core")) each"
    let titles = ["processor", "precision", "GFLOP/s a core", "step s", "hours", "node-hours"]
    let table = rows.map { row in
      [row.processor, row.precision.rawValue]
        + [row.gflopsOfCore, row.stepSeconds, row.hours, row.nodeHours].map(short)
    }
    return ["hours of the run's \(Figures.count(steps, "step")) on \(place), by the measured steps of two cores:"]
      + Figures.table([titles] + table).split(separator: "\n").map(String.init)
  }
}
