internal import Foundation
public import Tensor

/// Writes one part of a teacher cache: `/image` [n, views, d] and `/text` [m, d] of consecutive samples.
///
/// The file gets its name when it is whole and on the disk. Beside it a small JSON file says what is in it, so that a
/// job that is killed loses no part that was finished.
public final class CachePartWriter {
  private let folder: String
  private let manifest: CacheManifest
  private let index: Int
  private let samples: Range<Int>
  private let captions: Range<Int>
  private let partial: String
  private let file: HDF5File
  private let image: HDF5Dataset
  private let text: HDF5Dataset

  /// - Parameters:
  ///   - index: the part's number.
  ///   - captions: the captions of its samples.
  init(folder: String, _ manifest: CacheManifest, index: Int, captions: Range<Int>) throws {
    self.folder = folder
    self.manifest = manifest
    self.index = index
    self.captions = captions
    samples = manifest.samples(ofPart: index)
    partial = "\(folder)/\(CacheManifest.partFile(index)).\(UUID().uuidString)\(CacheWriter.partial)"
    let width = manifest.description.teacher.width
    file = try HDF5File.create(partial)
    image = try file.createDataset(
      "image", manifest.type.stored, shape: [samples.count, manifest.description.views, width])
    text = try file.createDataset("text", manifest.type.stored, shape: [captions.count, width])
    try manifest.describe(file.attributes)
    try file.attributes.set("first_sample", samples.lowerBound)
    try file.attributes.set("first_caption", captions.lowerBound)
  }

  /// Writes the embeddings [n · views, d] of some of the part's samples, all views of the first one first.
  public func write(images rows: Tensor<Float>, of samples: Range<Int>) throws {
    try put(rows, image, samples.lowerBound - self.samples.lowerBound..<samples.upperBound - self.samples.lowerBound)
  }

  /// Writes the embeddings [m, d] of some of the part's captions.
  public func write(texts rows: Tensor<Float>, of captions: Range<Int>) throws {
    try put(rows, text, captions.lowerBound - self.captions.lowerBound..<captions.upperBound - self.captions.lowerBound)
  }

  private func put(_ rows: Tensor<Float>, _ dataset: HDF5Dataset, _ range: Range<Int>) throws {
    switch manifest.type {
    case .fp32: try dataset.write(rows, rows: range)
    case .fp16: try dataset.write(rows.array.map { Float16($0) }, rows: range)
    case .bf16: try dataset.write(rows.array.map { BFloat16($0) }, rows: range)
    }
  }

  /// Brings the part to the disk and publishes it.
  public func finish() throws -> CacheManifest.Part {
    try file.close()
    try Publish.sync(file: partial)
    let written = try OpenFile.reading(partial)
    let name = CacheManifest.partFile(index)
    let part = CacheManifest.Part(
      file: name, first: samples.lowerBound, end: samples.upperBound, firstCaption: captions.lowerBound,
      endCaption: captions.upperBound, imageOffset: image.fileOffset ?? 0, textOffset: text.fileOffset ?? 0,
      bytes: try written.size(), sha256: try written.sha256())
    // First the record, so that no part is ever without one.
    try PartRecord(key: manifest.key, part: part).write(folder)
    try Publish.rename(partial, to: "\(folder)/\(name)")
    return part
  }

  /// Removes what was begun and will not be finished.
  public func abandon() {
    try? file.close()
    try? Publish.removeAll(partial)
  }
}

/// What lies beside a part until the manifest lists it, and after.
struct PartRecord: Codable {
  /// `CacheManifest.key`: parts of another cache that were left in the folder are not taken for this one's.
  let key: String
  let part: CacheManifest.Part

  /// The record's file, of a part's.
  static func file(_ part: String) -> String { "\(part.dropLast(3)).json" }

  func write(_ folder: String) throws {
    let text = [UInt8](try CacheManifest.encoder.encode(self)) + [UInt8(ascii: "\n")]
    try Publish.file(
      "\(folder)/\(Self.file(part.file))", raising: { $0 }, body: { (file) throws(FileError) in try file.append(text) })
  }

  /// The record of a part; nil where there is none that can be read.
  static func read(_ folder: String, _ file: String) -> PartRecord? {
    guard let bytes = FileManager.default.contents(atPath: "\(folder)/\(Self.file(file))") else { return nil }
    return try? JSONDecoder().decode(PartRecord.self, from: bytes)
  }
}

extension CacheManifest {
  /// Everything that the embeddings depend on, for readers of the file alone.
  func describe(_ attributes: HDF5Attributes) throws {
    try attributes.set("schema", "kinship teacher cache \(format)")
    try attributes.set("version", version)
    try attributes.set("blas_kernel", kernel)
    try attributes.set("teacher_sha256", description.teacher.sha256)
    try attributes.set("teacher_config", description.teacher.config)
    try attributes.set("teacher_vocabulary_sha256", description.teacher.vocabularySHA256)
    try attributes.set("logit_scale", Double(logitScale))
    try attributes.set("corpus", description.corpus.name)
    try attributes.set("corpus_sha256", description.corpus.sha256)
    try attributes.set("samples", description.corpus.samples)
    try attributes.set("captions", description.corpus.captions)
    try attributes.set("data_seed", description.seed)
    try attributes.set("views", description.views)
    for (name, value) in description.image.sorted(by: { $0.key < $1.key }) {
      try attributes.set("image_\(name)", value)
    }
  }
}
