import Dist
import Foundation
import Settings

/// The folder of a run, as far as a report can read it.
struct ReportedRun {
  /// A checkpoint's folder.
  struct Checkpoint {
    var name: String
    var bytes: Int
  }

  /// The folder as the user has named it.
  let path: String
  /// The run's own name, with the folder if other runs of the report have the same name.
  private(set) var name: String
  let history: RunHistory
  /// The text of the resolved run file; nil if it cannot be read.
  let yaml: String?
  /// The decoded run file; nil if this release does not understand it.
  let config: RunConfig?
  /// The scalars of the run file by their paths.
  let settings: [String: String]
  /// The checkpoints that are still there, by rising step.
  let checkpoints: [Checkpoint]

  /// Throws a `ReportError` if there is no log; everything else may be missing.
  init(_ path: String) throws {
    let folder = URL(filePath: path, directoryHint: .isDirectory)
    self.path = path
    history = try LogReader.read(folder.appending(path: RunLog.fileName), run: path)
    let file = folder.appending(path: RunFolder.runFile).relativePath
    yaml = try? RunConfig.text(of: file)
    config = yaml.flatMap { try? RunConfig.decode($0, file: file) }
    settings =
      yaml.map { text in
        (try? RunNode.parse(text) { .file(file, line: $0, column: $1) })?.tree.leaves ?? [:]
      } ?? [:]
    name = config?.name ?? settings["name"] ?? folder.standardizedFileURL.lastPathComponent
    checkpoints = Self.checkpoints(in: folder.appending(path: RunFolder.checkpointFolder))
  }

  /// Reads the runs of a report. Runs of the same name are told apart by their folders.
  static func read(_ paths: [String]) throws -> [ReportedRun] {
    var runs = try paths.map { try ReportedRun($0) }
    let names = Dictionary(grouping: runs, by: \.name)
    for index in runs.indices where names[runs[index].name]?.count ?? 0 > 1 {
      runs[index].name += " (\(runs[index].path))"
    }
    return runs
  }

  private static func checkpoints(in folder: URL) -> [Checkpoint] {
    let files = FileManager.default
    let names = (try? files.contentsOfDirectory(atPath: folder.path)) ?? []
    return names.filter { $0.wholeMatch(of: /step-[0-9]{8,18}/) != nil }.sorted { ($0.count, $0) < ($1.count, $1) }.map
    { name in
      let parts = try? files.contentsOfDirectory(
        at: folder.appending(path: name), includingPropertiesForKeys: [.fileSizeKey])
      return Checkpoint(
        name: name,
        bytes: (parts ?? []).reduce(0) { $0 + ((try? $1.resourceValues(forKeys: [.fileSizeKey]).fileSize) ?? 0) })
    }
  }

  /// The run's progress in a few words.
  var state: String {
    let done = history.lastStep
    guard let planned = history.plannedSteps ?? config?.steps else { return "\(Chart.step(done)) steps done" }
    let epochs = history.epoch.map { ", \(Figures.fixed($0, $0 < 10 ? 1 : 0)) epochs" } ?? ""
    return done >= planned
      ? "all \(Chart.step(planned)) steps done\(epochs)"
      : "\(Chart.step(done)) of \(Chart.step(planned)) steps done\(epochs)"
  }

  /// The median of a figure over the steps. If there are more than two lines, the first is left out: it includes the
  /// start of the run.
  func median(_ figure: StepTable.Figure) -> Double? {
    let values = history.table[figure]?.finite.map(\.value) ?? []
    let sorted = (values.count > 2 ? values.dropFirst() : values[...]).sorted()
    return sorted.isEmpty ? nil : sorted[sorted.count / 2]
  }
}

extension ReportedRun {
  /// The problems of the log that a reader should know before trusting the curves.
  var troubles: [String] {
    var troubles: [String] = []
    if history.unreadable > 0 {
      troubles.append(
        "\(Self.count(history.unreadable, "line")) of \(Chart.step(history.lines)) could not be understood and "
          + "\(history.unreadable == 1 ? "is" : "are") left out; the first is line \(history.firstUnreadable ?? 0)"
          + (history.isTorn ? "; the last one ends in the middle" : ""))
    }
    if history.superseded > 0 {
      troubles.append(
        "\(Self.count(history.superseded, "line")) of steps that were done again later "
          + "\(history.superseded == 1 ? "is" : "are") left out: the later ones count")
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

  private static func count(_ number: Int, _ noun: String) -> String {
    "\(Chart.step(number)) \(noun)\(number == 1 ? "" : "s")"
  }
}

/// The reasons why a report cannot be written.
enum ReportError: ExitCoded, Equatable, CustomStringConvertible {
  case noLog(run: String, FileError)
  case emptyLog(path: String, lines: Int)
  case unwritable(FileError)

  var status: ExitStatus {
    switch self {
    case .noLog, .unwritable: .inputOutput
    case .emptyLog: .badData
    }
  }

  var description: String {
    switch self {
    case .noLog(let run, let error):
      "\(run) has no log that can be read (\(error)); expected the folder of a run, as kinship train makes it"
    case .emptyLog(let path, let lines):
      lines == 0
        ? "\(path) is empty: the run has not begun"
        : "\(path): none of \(lines) lines is one that kinship train writes; expected a run's log"
    case .unwritable(let error): "\(error); name another file with --output"
    }
  }
}
