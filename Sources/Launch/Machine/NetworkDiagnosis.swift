import Foundation

extension NetworkReport {
  /// What was measured, for people.
  var lines: [String] {
    let ranks = (pairs.map(\.second).max() ?? 0) + 1
    let measured =
      isComplete
      ? "all \(pairs.count == 1 ? "1 pair" : "\(pairs.count) pairs") of ranks"
      : "a ring and \(pairs.count - ranks) random pairs of \(ranks) ranks"
    var lines = ["network: \(measured), one after the other; then all ranks at once"]
    for (name, sharesNode) in [("within a node", true), ("between nodes", false)] {
      let those = pairs.filter { $0.sharesNode == sharesNode }
      guard !those.isEmpty else { continue }
      lines.append(
        Self.line(
          name, "latency \(Self.spread(those.map(\.latency))) µs, bandwidth \(Self.spread(those.map(\.bandwidth))) GB/s"
        ))
    }
    for (name, found) in [("reduce-scatter", reduceScatter), ("all-gather", allGather)] {
      lines.append(
        Self.line(
          name,
          "\(Figures.bytes(found.bytes)) in \(Figures.significant(1000 * found.seconds, 3)) ms, "
            + "\(Figures.significant(found.bandwidth, 3)) GB/s into each rank"))
    }
    if let worst = clocks.max(by: { abs($0.offset) < abs($1.offset) }) {
      lines.append(
        Self.line(
          "clocks",
          "at most \(Figures.significant(1000 * abs(worst.offset), 3)) ms apart "
            + "(± \(Figures.significant(1000 * worst.uncertainty, 2)))"))
    }
    return lines
  }

  private static func line(_ name: String, _ text: String) -> String {
    "  " + name.padding(toLength: 15, withPad: " ", startingAt: 0) + text
  }

  /// `12 (10 to 31)`: the median and both ends.
  private static func spread(_ values: [Double]) -> String {
    let sorted = values.sorted()
    let short = { ($0 as Double) < 100 ? Figures.significant($0, 3) : Figures.fixed($0, 0) }
    guard let first = sorted.first, let last = sorted.last, sorted.count > 1 else { return sorted.map(short).joined() }
    return "\(short(sorted[sorted.count / 2])) (\(short(first)) to \(short(last)))"
  }

  /// Below this many GB/s ranks of a node do not talk through shared memory.
  private static let sharedMemory = 0.5
  /// Below this many GB/s a network is slower than 2.5 Gb/s: gradients of a model of 40 M parameters take a second.
  private static let network = 0.3
  /// Microseconds; TCP within a room takes a tenth.
  private static let slowLatency = 500.0
  /// Seconds by which clocks may differ before logs and the times of files mislead.
  private static let clockTolerance = 1.0

  /// What is wrong, and what to type.
  func findings(_ reports: [RankReport]) -> [String] {
    var found: [String] = []
    func median(_ values: [Double]) -> Double? {
      values.isEmpty ? nil : values.sorted()[values.count / 2]
    }
    let inside = pairs.filter(\.sharesNode)
    let between = pairs.filter { !$0.sharesNode }
    if let rate = median(inside.map(\.bandwidth)), rate < Self.sharedMemory {
      found.append(
        "ranks of one node exchange \(Figures.significant(rate, 2)) GB/s: shared memory is not in use, or cores are"
          + " overcommitted; let OMPI_MCA_btl name vader (self,vader,tcp), and start no more ranks than cores")
    }
    if let rate = median(between.map(\.bandwidth)), rate < Self.network {
      found.append(
        "nodes exchange \(Figures.significant(rate, 2)) GB/s, and gradients will wait for the wire; if there is a faster"
          + " network, name it (mpirun --mca btl_tcp_if_include eth1), else see what it costs with kinship plan")
    }
    if let latency = median(between.map(\.latency)), latency > Self.slowLatency {
      found.append(
        "a message between nodes takes \(Figures.fixed(latency, 0)) µs; look whether mpirun goes over the right"
          + " network (--mca btl_tcp_if_include, --mca oob_tcp_if_include)")
    }
    for those in [inside, between] {
      guard let rate = median(those.map(\.bandwidth)) else { continue }
      let slow = those.filter { $0.bandwidth < rate / 3 }.sorted { $0.bandwidth < $1.bandwidth }
      guard !slow.isEmpty else { continue }
      let named = slow.prefix(3).map { pair in
        "\(Self.place(pair.first, reports)) and \(Self.place(pair.second, reports)) "
          + Figures.significant(pair.bandwidth, 2)
      }
      found.append(
        "\(slow.count == 1 ? "a pair exchanges" : "\(slow.count) pairs exchange") less than a third of the usual"
          + " \(Figures.significant(rate, 2)) GB/s (\(named.joined(separator: ", "))), and every step waits for the"
          + " slowest; look at the cable and port of those nodes, or leave them out of the host file")
    }
    for clock in clocks where abs(clock.offset) > Self.clockTolerance + clock.uncertainty {
      found.append(
        "the clock of \(Self.place(clock.rank, reports)) is \(Figures.significant(abs(clock.offset), 3)) s"
          + " \(clock.offset > 0 ? "ahead of" : "behind") that of rank 0; start chrony or ntpd there")
    }
    return found
  }

  private static func place(_ rank: Int, _ reports: [RankReport]) -> String {
    "rank \(rank) on \(reports[rank].hostname)"
  }
}
