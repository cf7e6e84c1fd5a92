internal import Foundation

/// All parts as one HDF5 file, for other tools: virtual data sets over the parts' own, by relative names.
///
/// A part that is missing reads as NaN; that it is damaged nobody would notice, so we read through the manifest.
enum CacheView {
  static let file = "embeddings.h5"

  static func write(_ manifest: CacheManifest, _ folder: String) throws {
    let partial = "\(folder)/\(file).\(UUID().uuidString)\(CacheWriter.partial)"
    let (corpus, width) = (manifest.description.corpus, manifest.description.teacher.width)
    do {
      let view = try HDF5File.create(partial)
      try manifest.describe(view.attributes)
      try view.createVirtualDataset(
        "image", manifest.type.stored, shape: [corpus.samples, manifest.description.views, width],
        sources: manifest.parts.map { HDF5Source(file: $0.file, rows: $0.first..<$0.end) })
      try view.createVirtualDataset(
        "text", manifest.type.stored, shape: [corpus.captions, width],
        sources: manifest.parts.map { HDF5Source(file: $0.file, rows: $0.firstCaption..<$0.endCaption) })
      try view.close()
      try Publish.sync(file: partial)
      try Publish.rename(partial, to: "\(folder)/\(file)")
    } catch {
      try? Publish.removeAll(partial)
      throw error
    }
  }
}
