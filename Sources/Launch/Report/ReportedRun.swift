import Dist
import Foundation
import Settings

/// The folder of a run, as far as a report can read it.
struct ReportedRun {
  let path: String
  /// The run's own name, with the folder if other runs of the report have the same name.
  private(set) var name: String
  let history: RunHistory
  let yaml: String?
  /// The decoded run file; nil if this release does not understand it.
  let config: RunConfig?
  let settings: [String: String]
  /// The checkpoints that are still there, by rising step.
  let checkpoints: [(name: String, bytes: Int)]
  /// The figures of its exported forms; nil if nobody has measured them.
  let exports: ExportFigures?

  /// Throws a `ReportError` if there is no log, and a `UserError` if the figures of exported forms are malformed;
  /// everything else may be missing.
  init(_ path: String) throws {
    let folder = URL(filePath: path, directoryHint: .isDirectory)
    self.path = path
    history = try LogReader.read(folder.appending(path: RunLog.fileName), run: path)
    let file = folder.appending(path: RunFolder.runFile).relativePath
    yaml = try? RunConfig.text(of: file)
    config = yaml.flatMap { try? RunConfig.decode($0, file: file) }
    settings = yaml.flatMap(RunFolder.settings) ?? [:]
    name = config?.name ?? settings["name"] ?? folder.standardizedFileURL.lastPathComponent
    checkpoints = Self.checkpoints(in: folder.appending(path: RunFolder.checkpointFolder))
    exports = try ExportFigures(ofRun: folder)
  }

  /// Reads the runs of a report. Runs of the same name are told apart by their folders.
  static func read(_ paths: [String]) throws -> [ReportedRun] {
    var runs = try paths.map { try ReportedRun($0) }
    let names = Dictionary(grouping: runs, by: \.name)
    for at in runs.indices where names[runs[at].name]?.count ?? 0 > 1 { runs[at].name += " (\(runs[at].path))" }
    return runs
  }

  private static func checkpoints(in folder: URL) -> [(name: String, bytes: Int)] {
    let files = FileManager.default
    let names = (try? files.contentsOfDirectory(atPath: folder.path)) ?? []
    let steps = names.filter { $0.wholeMatch(of: /step-[0-9]{8,18}/) != nil }
    return steps.sorted { ($0.count, $0) < ($1.count, $1) }.map { name in
      let parts = try? files.contentsOfDirectory(
        at: folder.appending(path: name), includingPropertiesForKeys: [.fileSizeKey])
      return (name, (parts ?? []).reduce(0) { $0 + ((try? $1.resourceValues(forKeys: [.fileSizeKey]).fileSize) ?? 0) })
    }
  }

  var state: String {
    let done = history.lastStep
    guard let planned = history.plannedSteps ?? config?.steps else { return "\(Chart.step(done)) steps done" }
    let epochs = history.epoch.map { ", \(Figures.fixed($0, $0 < 10 ? 1 : 0)) epochs" } ?? ""
    let all = Chart.step(planned)
    return done >= planned ? "all \(all) steps done\(epochs)" : "\(Chart.step(done)) of \(all) steps done\(epochs)"
  }

  /// The median of a figure over the steps, without the first of many, which includes the start of the run.
  func median(_ figure: StepTable.Figure) -> Double? {
    let values = history.values(figure)
    return values.isEmpty ? nil : Array(values.dropFirst(values.count > 2 ? 1 : 0)).median
  }

  /// The problems of the log that a reader should know before trusting the curves.
  var troubles: [String] {
    var troubles: [String] = []
    func verb(_ count: Int) -> String { count == 1 ? "is" : "are" }
    if history.unreadable > 0 {
      troubles.append(
        "\(Self.count(history.unreadable, "line")) of \(Chart.step(history.lines)) could not be understood and "
          + "\(verb(history.unreadable)) left out; the first is line \(history.firstUnreadable ?? 0)"
          + (history.isTorn ? "; the last one ends in the middle" : ""))
    }
    if history.superseded > 0 {
      let lines = "\(Self.count(history.superseded, "line")) of steps that were done again later"
      troubles.append("\(lines) \(verb(history.superseded)) left out: the later ones count")
    }
    let notFinite = history.table.figures.reduce(0) { $0 + (history.table[$1]?.notFinite ?? 0) }
    if notFinite > 0 {
      troubles.append("\(Self.count(notFinite, "value")) not finite: marked by triangles at the top of the charts")
    }
    if history.table.isCut { troubles.append("only the first \(StepTable.limit) figures are shown") }
    if history.table.steps.isEmpty { troubles.append("no step has been logged yet") }
    if yaml == nil { troubles.append("the run file \(RunFolder.runFile) is not there or cannot be read") }
    return troubles
  }

  private static func count(_ n: Int, _ noun: String) -> String { "\(Chart.step(n)) \(noun)\(n == 1 ? "" : "s")" }
}
