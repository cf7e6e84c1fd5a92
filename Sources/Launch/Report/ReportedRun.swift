import Dist
import Foundation
import Settings

/// A run as a report sees it: its folder, as far as it can be read.
struct ReportedRun {
  /// A checkpoint's folder.
  struct Checkpoint {
    var name: String
    var bytes: Int
  }

  /// As the user has named the folder.
  let path: String
  /// The run's own, unless others of the report have the same.
  private(set) var name: String
  let history: RunHistory
  /// The resolved run file; nil where it cannot be read.
  let yaml: String?
  /// The same, understood; nil where this release does not understand it.
  let config: RunConfig?
  /// The scalars of the run file by their paths.
  let settings: [String: String]
  /// What is there now, by rising step.
  let checkpoints: [Checkpoint]

  /// Throws a `ReportError` where there is no log; all else may be missing.
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

  /// Runs of a report; those of one name are told apart by their folders.
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

  /// Where the run stands, in a few words.
  var state: String {
    let done = history.lastStep
    guard let planned = history.plannedSteps ?? config?.steps else { return "\(Chart.step(done)) steps done" }
    let epochs = history.epoch.map { ", \(Figures.fixed($0, $0 < 10 ? 1 : 0)) epochs" } ?? ""
    return done >= planned
      ? "all \(Chart.step(planned)) steps done\(epochs)"
      : "\(Chart.step(done)) of \(Chart.step(planned)) steps done\(epochs)"
  }

  /// The median of a figure over the steps, the first line left out where there are more: it has the start in it.
  func median(_ figure: StepTable.Figure) -> Double? {
    let values = history.table[figure]?.finite.map(\.value) ?? []
    let sorted = (values.count > 2 ? values.dropFirst() : values[...]).sorted()
    return sorted.isEmpty ? nil : sorted[sorted.count / 2]
  }
}
