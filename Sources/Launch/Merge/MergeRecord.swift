import Dist
import Foundation
import Model
import Settings

/// What a merged file says of where it comes from: the text of its metadata, or attribute, `kinship_merge`.
struct MergeRecord: Codable {
  struct Source: Codable {
    var checkpoint: String
    /// Of the checkpoint's manifest, which has the checksums of all parts.
    var sha256: String
    /// The run's name.
    var run: String
    var step: Int
    var samples: Int
    /// What its numbers were multiplied by.
    var weight: Double
    /// The version of Kinship that wrote it.
    var version: String
  }

  /// `none`, `uniform`, `weights`, or `ema` with its decay.
  var average: String
  var optimizer: Bool
  /// True where the numbers are those of moving averages, nil where they are the weights' own.
  var emaWeights: Bool?
  /// Of the last source.
  var step: Int
  var sources: [Source]

  init(_ plan: MergePlan, optimizer: Bool) throws {
    average = plan.average?.text ?? "none"
    self.optimizer = optimizer
    emaWeights = plan.emaWeights ? true : nil
    step = plan.last.checkpoint.manifest.record.step
    sources = try plan.inputs.map { input in
      let record = input.checkpoint.manifest.record
      return Source(
        checkpoint: input.checkpoint.folder, sha256: try input.checkpoint.sha256, run: input.saved.name,
        step: record.step, samples: record.samples, weight: input.weight, version: record.version)
    }
  }

  static let key = "kinship_merge"
}

extension MergePlan {
  /// Everything that a merged file says besides its numbers: enough to use it alone.
  func metadata(optimizer: Bool) throws -> [String: String] {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    var metadata = ModelFiles.metadata(config)
    metadata[ModelFiles.configKey] = String(
      decoding: try ModelFiles.json(config, preprocessing: last.saved.image), as: UTF8.self)
    metadata[SavedRun.key] = last.checkpoint.manifest.record.run
    metadata[MergeRecord.key] = String(
      decoding: try encoder.encode(MergeRecord(self, optimizer: optimizer)), as: UTF8.self)
    metadata["kinship_version"] = Release.version
    return metadata
  }
}

extension SavedRun {
  /// Under which files that were made from a run's checkpoint have its text.
  static let key = "kinship_run"

  /// The run's name.
  var name: String {
    let place = { Place.file(RunFolder.runFile, line: $0, column: $1) }
    return (try? RunNode.parse(run, place: place).tree.leaves["name"]) ?? ""
  }
}
