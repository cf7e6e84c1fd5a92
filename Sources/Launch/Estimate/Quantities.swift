import ArgumentParser
import Dist
import Foundation

/// A rate as people write it: bits as tc has them, or bytes.
struct Bandwidth: ExpressibleByArgument, Equatable {
  var bytes: Double

  init?(argument: String) {
    let units = [
      ("gbit", 1e9 / 8), ("mbit", 1e6 / 8), ("kbit", 1e3 / 8), ("GB", 1e9), ("MB", 1e6),
    ]
    guard let value = Self.value(argument, units) else { return nil }
    bytes = value
  }

  /// The number before one of the units, times its worth; nil for anything else, and for what is not more than 0.
  fileprivate static func value(_ text: String, _ units: [(name: String, worth: Double)]) -> Double? {
    guard let unit = units.first(where: { text.hasSuffix($0.name) }),
      let number = Double(text.dropLast(unit.name.count)), number > 0, number.isFinite
    else { return nil }
    return number * unit.worth
  }
}

/// A short time as people write it.
struct Latency: ExpressibleByArgument, Equatable {
  var seconds: Double

  init?(argument: String) {
    guard let value = Bandwidth.value(argument, [("us", 1e-6), ("ms", 1e-3), ("s", 1)]) else { return nil }
    seconds = value
  }
}

extension Wire {
  /// Of ranks of one node, where nothing was measured.
  static let sharedMemory = Wire(latency: 1e-6, bandwidth: 4e9)

  /// The usual one among pairs that were measured; nil where there are none.
  init?(_ pairs: [NetworkReport.Pair]) {
    guard !pairs.isEmpty else { return nil }
    func median(_ values: [Double]) -> Double { values.sorted()[values.count / 2] }
    self.init(latency: 1e-6 * median(pairs.map(\.latency)), bandwidth: 1e9 * median(pairs.map(\.bandwidth)))
  }
}

/// What a plan takes from the doctor's JSON.
struct DoctorFigures {
  /// Of the slowest rank.
  var rates: ProductRates
  var network: Wire?
  var memory: Wire?
  /// Those of all ranks, which decide `precision: auto`; nil where an earlier version has not written them.
  var processors: [RankProcessor]?

  init(contentsOf path: String) throws {
    struct Report: Decodable {
      struct Rank: Decodable {
        struct Host: Decodable { var identity: Processor? }
        var allCores: Double
        var allCoresRounded: Double?
        var hostname: String?
        var host: Host?

        var processor: RankProcessor? {
          guard let hostname, let identity = host?.identity else { return nil }
          return RankProcessor(hostname: hostname, processor: identity)
        }
      }
      var ranks: [Rank]
      var network: NetworkReport?
    }
    let report: Report
    do {
      // Warnings may stand before the last line.
      let text = try String(contentsOfFile: path, encoding: .utf8)
      report = try JSONDecoder().decode(Report.self, from: Data((text.split(separator: "\n").last ?? "").utf8))
    } catch {
      throw UserError(
        path: path, status: .badData, reason: "is not what kinship doctor --json prints: \(error.localizedDescription)")
    }
    guard let slowest = report.ranks.map(\.allCores).min(), slowest > 0 else {
      throw UserError(path: path, status: .badData, reason: "has no rank with a rate of matrix products")
    }
    // Where one rank has no such products, no rank uses them.
    let rounded = report.ranks.compactMap(\.allCoresRounded)
    let bf16 = rounded.count == report.ranks.count ? rounded.min() : nil
    rates = ProductRates(fp32: 1e9 * slowest, bf16: 1e9 * (bf16 ?? slowest))
    let known = report.ranks.compactMap(\.processor)
    processors = known.count == report.ranks.count ? known : nil
    network = Wire(report.network?.pairs.filter { !$0.sharesNode } ?? [])
    memory = Wire(report.network?.pairs.filter(\.sharesNode) ?? [])
  }
}
