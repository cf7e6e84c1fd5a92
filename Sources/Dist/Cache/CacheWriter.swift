internal import Foundation
public import Tensor

/// Writes a teacher cache with any number of ranks, in one job or in several.
public struct CacheWriter {
  public let folder: String
  public let manifest: CacheManifest
  /// The arithmetic that the existing cache was begun with, if it is not this job's, which then may not add to it.
  public let otherArithmetic: String?
  private let arithmetic: String
  private let communicator: Communicator

  /// Begins or continues the cache in `folder`. Every rank must call it. Throws `CacheError` if it holds others.
  public init(_ folder: String, _ wanted: CacheManifest, communicator: Communicator) throws {
    self.folder = folder
    self.communicator = communicator
    if communicator.rank == 0 { try Self.prepare(folder, wanted) }
    try communicator.barrier()
    guard let found = try CacheManifest.read(folder) else {
      throw CacheError(
        folder, ["rank \(communicator.rank) does not see the \(CacheManifest.file) that rank 0 wrote"],
        advice: "name a folder that all nodes share", status: .inputOutput)
    }
    try communicator.requireSame("teacher cache \(folder)", found.identity, isShown: true)
    var manifest = wanted
    (manifest.parts, manifest.arithmetic) = (found.parts, found.arithmetic)
    self.manifest = manifest
    arithmetic = wanted.arithmeticText
    let isOwn = Set(wanted.arithmetic ?? []).isSubset(of: found.arithmetic ?? [])
    otherArithmetic = isOwn ? nil : found.arithmeticText
  }

  private static func prepare(_ folder: String, _ wanted: CacheManifest) throws {
    try Publish.makeFolder(folder)
    if let found = try CacheManifest.read(folder) {
      var problems = found.description.differences(from: wanted.description)
      func refuse(_ isDifferent: Bool, _ problem: String) { if isDifferent { problems.append(problem) } }
      let (views, type) = (found.description.views, found.type)
      refuse(
        views > wanted.description.views,
        "its data.views is \(views), the run asks for \(wanted.description.views)")
      refuse(type != wanted.type, "its numbers are \(type.rawValue), the run asks for \(wanted.type.rawValue)")
      refuse(
        found.partSamples != wanted.partSamples,
        "its parts have \(found.partSamples) samples, the run asks for \(wanted.partSamples)")
      refuse(found.version != wanted.version, "it was written by version \(found.version), this is \(wanted.version)")
      guard problems.isEmpty else {
        throw CacheError(folder, problems, advice: "name another folder in teacher.cache, or remove this one")
      }
    } else {
      try wanted.write(into: folder)
    }
    for name in try Publish.names(in: folder) where name.hasSuffix(".partial") {
      try Publish.removeAll("\(folder)/\(name)")
    }
  }

  /// Returns the undamaged parts by their numbers. Every rank must call it, and each reads its share. Throws a
  /// `CacheError` if parts are missing and the cache was begun with another arithmetic.
  public func soundParts() throws -> [Int: CacheManifest.Part] {
    let own = stride(from: communicator.rank, to: manifest.partCount, by: communicator.size).compactMap { index in
      let record = PartRecord.read(folder, CacheManifest.partFile(index))
      let recorded = record?.key == manifest.key ? record?.part : nil
      let candidates = [recorded, manifest.parts.isEmpty ? nil : manifest.parts[index]].compactMap { $0 }
      return candidates.first {
        $0.file == CacheManifest.partFile(index) && $0.covers(manifest.samples(ofPart: index))
          && $0.problem(in: folder, checksum: true) == nil
      }
    }
    let all = try communicator.allGather(own).flatMap { $0 }
    let missing = manifest.partCount - all.count
    if let otherArithmetic, missing > 0 {
      throw CacheError(
        folder,
        [
          "it was begun with \(otherArithmetic), this job computes with \(arithmetic), and \(missing) of "
            + "\(manifest.partCount) parts are to be computed, whose last bits would differ"
        ],
        advice: "finish it with the build, the libraries and the kind of processor that began it, or begin anew: name "
          + "another folder in teacher.cache, or remove this one")
    }
    return Dictionary(uniqueKeysWithValues: all.map { ($0.first / manifest.partSamples, $0) })
  }

  /// Returns the approximate size of a part in bytes; the largest number if it exceeds 64 bits.
  public func bytes(ofPart index: Int, captions: Int) -> Int {
    let about = manifest.description
    let crops = Checked(manifest.samples(ofPart: index).count) * Checked(about.views)
    let numbers = crops * Checked(about.imageWidth) + Checked(captions) * Checked(about.textWidth)
    let embeddings = numbers * Checked(manifest.type.stored.size)
    let boxes = crops * Checked(about.hasBoxes ? CacheDescription.boxBytes : 0)
    return (embeddings + boxes + 16_384).value ?? .max
  }

  /// Throws if the file system of the folder has less than `bytes` free.
  public func requireSpace(_ bytes: Int) throws {
    let free = try Publish.available(at: folder)
    guard bytes <= free else {
      throw CacheError(
        folder, ["\(bytes) bytes are needed, \(free) are available"],
        advice: "free some space, lower data.views, or store fp16 (teacher.cache.type)", status: .inputOutput)
    }
  }

  /// Begins part `index`, whose samples have the captions `captions`.
  public func part(_ index: Int, captions: Range<Int>) throws -> CachePartWriter {
    try CachePartWriter(folder: folder, manifest, index: index, captions: captions)
  }

  /// Lists all parts, those that `soundParts` has found and those of which each rank gives the ones that it wrote, and
  /// writes the view over them.
  public func finish(_ own: [CacheManifest.Part], beside found: [Int: CacheManifest.Part]) throws -> CacheManifest {
    var whole = manifest
    let written = try communicator.allGather(own).joined()
    let all = Dictionary((Array(written) + Array(found.values)).map { ($0.first, $0) }) { first, _ in first }
    whole.parts = all.values.sorted { $0.first < $1.first }
    precondition(whole.isWhole, "\(whole.parts.count) of \(whole.partCount) parts")
    if communicator.rank == 0 {
      // An existing manifest of the same parts keeps its path of the teacher.
      if let found = try CacheManifest.read(folder), found.parts == whole.parts {
        whole = found
      } else {
        try whole.write(into: folder)
      }
      try CacheView.write(whole, folder)
    }
    try communicator.barrier()
    return whole
  }

  /// Removes the manifest, the view and all records, so that every part is computed again. Every rank must call it.
  public func retract() throws {
    if communicator.rank == 0 {
      let records = (0..<manifest.partCount).map { PartRecord.file(CacheManifest.partFile($0)) }
      for name in [CacheManifest.file, CacheView.file] + records { try Publish.removeAll("\(folder)/\(name)") }
    }
    try communicator.barrier()
  }
}

/// Writes one part: `/image` [n, views, d] and `/text` [m, d], and `/boxes` [n, views, 4] if the crops were given. A
/// JSON file beside it keeps it if the job is killed.
public final class CachePartWriter {
  private let folder: String
  private let manifest: CacheManifest
  private let name: String
  private let samples: Range<Int>
  private let captions: Range<Int>
  private let partial: String
  private let file: HDF5File
  /// The data sets; nil if there is nothing for them.
  private let image, text, boxes: HDF5Dataset?

  init(folder: String, _ manifest: CacheManifest, index: Int, captions: Range<Int>) throws {
    (self.folder, self.manifest, self.captions) = (folder, manifest, captions)
    samples = manifest.samples(ofPart: index)
    name = CacheManifest.partFile(index)
    partial = Publish.temporaryPath(for: "\(folder)/\(name)")
    let (about, type, file) = (manifest.description, manifest.type.stored, try HDF5File.create(partial))
    self.file = file
    func create(_ name: String, _ type: HDF5Type, _ shape: [Int]) throws -> HDF5Dataset? {
      try shape.last == 0 ? nil : file.createDataset(name, type, shape: shape)
    }
    image = try create("image", type, [samples.count, about.views, about.imageWidth])
    text = try create("text", type, [captions.count, about.textWidth])
    boxes = try create("boxes", .float32, [samples.count, about.views, about.hasBoxes ? 4 : 0])
    try manifest.describe(file.attributes)
    try file.attributes.set("first_sample", samples.lowerBound)
    try file.attributes.set("first_caption", captions.lowerBound)
  }

  /// Writes the embeddings [n · views, d] of some of the part's samples, the views of each sample in a row.
  public func write(images rows: Tensor<Float>, of samples: Range<Int>) throws {
    try put(rows, image, samples.moved(by: -self.samples.lowerBound))
  }

  /// Writes the embeddings [m, d] of some of the part's captions.
  public func write(texts rows: Tensor<Float>, of captions: Range<Int>) throws {
    try put(rows, text, captions.moved(by: -self.captions.lowerBound))
  }

  /// Writes the boxes [n · views, 4] of the crops of some of the part's samples.
  public func write(boxes rows: Tensor<Float>, of samples: Range<Int>) throws {
    try boxes?.write(rows, rows: samples.moved(by: -self.samples.lowerBound))
  }

  private func put(_ rows: Tensor<Float>, _ dataset: HDF5Dataset?, _ range: Range<Int>) throws {
    guard let dataset else { preconditionFailure("embeddings that the manifest does not describe") }
    switch manifest.type {
    case .fp32: try dataset.write(rows, rows: range)
    case .fp16: try dataset.write(rows.array.map { Float16($0) }, rows: range)
    case .bf16: try dataset.write(rows.array.map { BFloat16($0) }, rows: range)
    }
  }

  /// Syncs the part to the disk and publishes it under its name.
  public func finish() throws -> CacheManifest.Part {
    try file.close()
    try Publish.sync(file: partial)
    let written = try OpenFile.reading(partial)
    let part = CacheManifest.Part(
      file: name, first: samples.lowerBound, end: samples.upperBound, firstCaption: captions.lowerBound,
      endCaption: captions.upperBound, imageOffset: image?.fileOffset ?? 0, textOffset: text?.fileOffset ?? 0,
      boxesOffset: boxes.map { $0.fileOffset ?? 0 }, bytes: try written.size(), sha256: try written.sha256())
    // The record comes first, so that every part has one.
    try PartRecord(key: manifest.key, part: part).write(folder)
    try Publish.rename(partial, to: "\(folder)/\(name)")
    return part
  }

  /// Removes the unfinished part.
  public func abandon() {
    try? file.close()
    try? Publish.removeAll(partial)
  }
}

/// The JSON file beside a part, which describes it before the manifest does.
struct PartRecord: Codable {
  /// The `key` of the manifest, which excludes parts that another cache left in the folder.
  let key: String
  let part: CacheManifest.Part
  /// The SHA-256 of both, for the part's own says nothing of where its numbers are.
  private let digest: String

  init(key: String, part: CacheManifest.Part) throws {
    self.key = key
    self.part = part
    digest = try Self.digest(key, part)
  }

  private static func digest(_ key: String, _ part: CacheManifest.Part) throws -> String {
    let bytes = try JSONEncoder.readable.encode(part)
    return SHA256.hash(bytes + Data(key.utf8)).hexadecimal
  }

  static func file(_ part: String) -> String { "\(part.dropLast(3)).json" }
  func write(_ folder: String) throws { try Publish.write(json: self, to: "\(folder)/\(Self.file(part.file))") }

  /// Returns the record of a part; nil if there is none, or if it was altered. Of an earlier release's, which has no
  /// digest, only a whole cache can be used, whose manifest has all that the records have.
  static func read(_ folder: String, _ file: String) -> PartRecord? {
    guard let bytes = try? OpenFile.contents("\(folder)/\(Self.file(file))"),
      let record = try? JSONDecoder().decode(PartRecord.self, from: Data(bytes))
    else { return nil }
    return record.digest == (try? digest(record.key, record.part)) ? record : nil
  }
}

extension CacheManifest {
  /// Writes everything that the embeddings depend on as attributes, for readers of the HDF5 file alone.
  func describe(_ attributes: HDF5Attributes) throws {
    try attributes.set("schema", "kinship teacher cache \(format)")
    try attributes.set("version", version)
    try attributes.set("blas_kernel", kernel)
    try attributes.set("teacher_sha256", description.teacher.sha256)
    if description.imported == nil {
      try attributes.set("teacher_config", description.teacher.config)
      try attributes.set("teacher_vocabulary_sha256", description.teacher.vocabularySHA256)
    }
    if description.imported?.isScaled != false { try attributes.set("logit_scale", Double(logitScale)) }
    try attributes.set("corpus", description.dataset.name)
    try attributes.set("corpus_sha256", description.dataset.sha256)
    try attributes.set("samples", description.dataset.samples)
    try attributes.set("captions", description.dataset.captions)
    try attributes.set("data_seed", description.seed)
    try attributes.set("views", description.views)
    let options = description.image.sorted { $0.key < $1.key }
    for (name, value) in options { try attributes.set("image_\(name)", value) }
  }
}

/// An HDF5 file for other tools that shows all parts as one. Missing parts read as NaN, so our readers do not use it.
enum CacheView {
  static let file = "embeddings.h5"

  static func write(_ manifest: CacheManifest, _ folder: String) throws {
    let partial = Publish.temporaryPath(for: "\(folder)/\(file)")
    let (about, type) = (manifest.description, manifest.type.stored)
    do {
      let view = try HDF5File.create(partial)
      try manifest.describe(view.attributes)
      func show(
        _ name: String, _ type: HDF5Type, _ shape: [Int], _ rows: (CacheManifest.Part) -> Range<Int>
      ) throws {
        guard shape.last != 0 else { return }
        try view.createVirtualDataset(name, type, shape: shape, sources: manifest.parts.map { ($0.file, rows($0)) })
      }
      let samples = about.dataset.samples
      try show("image", type, [samples, about.views, about.imageWidth]) { $0.first..<$0.end }
      try show("text", type, [about.dataset.captions, about.textWidth]) { $0.firstCaption..<$0.endCaption }
      try show("boxes", .float32, [samples, about.views, about.hasBoxes ? 4 : 0]) { $0.first..<$0.end }
      try view.close()
      try Publish.sync(file: partial)
      try Publish.rename(partial, to: "\(folder)/\(file)")
    } catch {
      try? Publish.removeAll(partial)
      throw error
    }
  }
}
