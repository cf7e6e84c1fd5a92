internal import Foundation

/// A teacher cache that is being written, by any number of ranks, at once or in several goes.
public struct CacheWriter {
  static let partial = ".partial"

  public let folder: String
  public let manifest: CacheManifest
  /// What the user should know of what was there already.
  public let notes: [String]
  private let communicator: Communicator

  /// Begins a cache in `folder`, or goes on with the one that is there. Every rank must call it.
  ///
  /// - Throws: `CacheError` where the folder holds the embeddings of something else.
  public init(_ folder: String, _ wanted: CacheManifest, communicator: Communicator) throws {
    self.folder = folder
    self.communicator = communicator
    if communicator.rank == 0 { try Self.prepare(folder, wanted) }
    try communicator.barrier()
    guard let found = try CacheManifest.read(folder) else {
      throw CacheError(
        folder, ["rank \(communicator.rank) does not see the \(CacheManifest.file) that rank 0 wrote"],
        advice: "name a folder that all nodes share", exitCode: 74)
    }
    var manifest = wanted
    manifest.parts = found.parts
    self.manifest = manifest
    notes =
      found.kernel == wanted.kernel
      ? []
      : [
        "\(folder) was begun with the BLAS kernel \(found.kernel), this is \(wanted.kernel): the last bits of new parts "
          + "are other ones"
      ]
  }

  private static func prepare(_ folder: String, _ wanted: CacheManifest) throws {
    try Publish.makeFolder(folder)
    if let found = try CacheManifest.read(folder) {
      var problems = found.description.differences(from: wanted.description)
      if found.description.views > wanted.description.views {
        problems.append("its data.views is \(found.description.views), the run asks for \(wanted.description.views)")
      }
      if found.type != wanted.type {
        problems.append("its numbers are \(found.type.rawValue), the run asks for \(wanted.type.rawValue)")
      }
      if found.partSamples != wanted.partSamples {
        problems.append("its parts have \(found.partSamples) samples, the run asks for \(wanted.partSamples)")
      }
      if found.version != wanted.version {
        problems.append("it was written by version \(found.version), this is \(wanted.version)")
      }
      guard problems.isEmpty else {
        throw CacheError(folder, problems, advice: "name another folder in teacher.cache, or remove this one")
      }
    } else {
      try wanted.write(into: folder)
    }
    for name in try FileManager.default.contentsOfDirectory(atPath: folder)
    where name.hasSuffix(partial) {
      try Publish.removeAll("\(folder)/\(name)")
    }
  }

  /// The parts that exist and verify, by their numbers. Every rank must call it; each reads its share.
  public func soundParts() throws -> [Int: CacheManifest.Part] {
    var own: [CacheManifest.Part] = []
    let known = manifest.parts
    for index in stride(from: communicator.rank, to: manifest.partCount, by: communicator.size) {
      let record = PartRecord.read(folder, CacheManifest.partFile(index))
      let recorded = record?.key == manifest.key ? record?.part : nil
      let candidates = [recorded, known.isEmpty ? nil : known[index]].compactMap { $0 }
      let found = candidates.first {
        $0.file == CacheManifest.partFile(index) && $0.first..<$0.end == manifest.samples(ofPart: index)
          && $0.problem(in: folder, checksum: true) == nil
      }
      if let found { own.append(found) }
    }
    let all = try gather(own)
    return Dictionary(uniqueKeysWithValues: all.map { ($0.first / manifest.partSamples, $0) })
  }

  /// Bytes that a part will need, nearly.
  public func bytes(ofPart index: Int, captions: Int) -> Int {
    let rows = manifest.samples(ofPart: index).count * manifest.description.views + captions
    return rows * manifest.description.teacher.width * manifest.type.stored.size + 16_384
  }

  /// Refuses to begin what will not fit.
  public func requireSpace(_ bytes: Int) throws {
    let free = try Publish.available(at: folder)
    guard bytes <= free else {
      throw CacheError(
        folder, ["\(bytes) bytes are needed, \(free) are available"],
        advice: "free some space, lower data.views, or store fp16 (teacher.cache.type)", exitCode: 74)
    }
  }

  public func part(_ index: Int, captions: Range<Int>) throws -> CachePartWriter {
    try CachePartWriter(folder: folder, manifest, index: index, captions: captions)
  }

  /// Lists all parts in the manifest and offers them as one file. Every rank must call it, with the parts that it wrote
  /// or that were sound before.
  public func finish(_ own: [CacheManifest.Part]) throws -> CacheManifest {
    var whole = manifest
    let all = Dictionary(try gather(own).map { ($0.first, $0) }) { first, _ in first }
    whole.parts = all.values.sorted { $0.first < $1.first }
    precondition(whole.isWhole, "\(whole.parts.count) of \(whole.partCount) parts")
    if communicator.rank == 0 {
      // What was there before keeps saying where its teacher was.
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

  /// Takes back what `finish` has made of the parts, and their records: the next job makes every part anew. Every rank
  /// must call it.
  public func retract() throws {
    if communicator.rank == 0 {
      let records = (0..<manifest.partCount).map { PartRecord.file(CacheManifest.partFile($0)) }
      for name in [CacheManifest.file, CacheView.file] + records { try Publish.removeAll("\(folder)/\(name)") }
    }
    try communicator.barrier()
  }

  private func gather(_ own: [CacheManifest.Part]) throws -> [CacheManifest.Part] {
    try communicator.allGather([UInt8](JSONEncoder().encode(own))).flatMap {
      try JSONDecoder().decode([CacheManifest.Part].self, from: Data($0))
    }
  }
}
