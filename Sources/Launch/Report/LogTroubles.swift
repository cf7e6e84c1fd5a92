/// What a reader should know of the log before trusting the curves.
enum LogTroubles {
  static func of(_ run: ReportedRun) -> [String] {
    let history = run.history
    var troubles: [String] = []
    if history.unreadable > 0 {
      troubles.append(
        "\(count(history.unreadable, "line")) of \(Chart.step(history.lines)) could not be understood and "
          + "\(history.unreadable == 1 ? "is" : "are") left out; the first is line \(history.firstUnreadable ?? 0)"
          + (history.isTorn ? "; the last one ends in the middle" : ""))
    }
    if history.superseded > 0 {
      troubles.append(
        "\(count(history.superseded, "line")) of steps that were done again later "
          + "\(history.superseded == 1 ? "is" : "are") left out: the later ones count")
    }
    let notFinite = history.table.figures.reduce(0) { $0 + (history.table[$1]?.notFinite ?? 0) }
    if notFinite > 0 {
      troubles.append("\(count(notFinite, "value")) not finite: marked by triangles at the top of the charts")
    }
    if history.table.isCut { troubles.append("only the first \(StepTable.limit) figures are shown") }
    if history.table.steps.isEmpty { troubles.append("no step has been logged yet") }
    if run.yaml == nil { troubles.append("the run file \(RunFolder.runFile) is not there or cannot be read") }
    return troubles
  }

  private static func count(_ number: Int, _ noun: String) -> String {
    "\(Chart.step(number)) \(noun)\(number == 1 ? "" : "s")"
  }
}
