/// What torch.save has written: a zip archive with a pickle, and an entry for each storage.
struct PyTorchArchive {
  let unpickler: Unpickler
  private let entries: [String: Range<Int>]
  /// The name of the folder that all entries are in, with its slash.
  private let folder: String

  /// Far above any model's; a longer one is a broken or hostile file.
  private static let longestPickle = 1 << 24

  init(_ file: OpenFile) throws(PyTorchError) {
    let path = file.path
    func problem(_ reason: String) -> PyTorchError { PyTorchError(path: path, reason: reason) }
    func bytes(_ range: Range<Int>) throws(PyTorchError) -> [UInt8] {
      try PyTorchError.naming(path) { () throws(FileError) in
        try file.read(range.count, of: UInt8.self, at: range.lowerBound)
      }
    }
    let first = try bytes(0..<min(try PyTorchError.naming(path, file.size), 512))
    guard first.starts(with: [0x50, 0x4B, 0x03, 0x04]) else { throw problem(Self.whatElse(first)) }
    let archive: ZipArchive
    do throws(ZipArchive.Failure) {
      archive = try ZipArchive(file)
    } catch {
      switch error {
      case .damaged(let reason): throw problem(reason)
      case .file(let error): throw PyTorchError(error, path: path)
      }
    }
    entries = archive.entries
    let pickles = entries.keys.filter { $0.hasSuffix("/data.pkl") && $0.split(separator: "/").count == 2 }
    guard let pickle = pickles.first, pickles.count == 1, let range = entries[pickle] else {
      throw problem("it is a zip archive, but not one of torch.save: it has \(pickles.count) entries NAME/data.pkl")
    }
    folder = String(pickle.dropLast("data.pkl".count))
    guard entries["\(folder)constants.pkl"] == nil else {
      throw problem(
        "it is a TorchScript program; in Python, if you trust it, save its weights: "
          + "torch.save(torch.jit.load(FILE, map_location=\"cpu\").state_dict(), NEW)")
    }
    if let name = archive.compressed {
      throw problem("its entry \(name) is compressed, which torch.save never does; unpack it and save it again")
    }
    if let order = entries["\(folder)byteorder"] {
      let name = String(decoding: try bytes(order.prefix(16)), as: UTF8.self)
      guard name == "little" else { throw problem("its byte order is \(name); only little can be read") }
    }
    guard range.count <= Self.longestPickle else {
      throw problem("\(pickle) has \(range.count) bytes, more than the \(Self.longestPickle) allowed")
    }
    let program = try bytes(range)
    do throws(Unpickler.Problem) {
      unpickler = try Unpickler(program)
    } catch { throw problem("\(pickle): \(error.reason)") }
  }

  /// The entry's bytes in the file.
  func data(of storage: PickleStorage) -> Range<Int>? { entries["\(folder)data/\(storage.key)"] }

  /// What a file is that begins otherwise than a zip archive.
  private static func whatElse(_ first: [UInt8]) -> String {
    // The number that torch.save wrote first before version 1.6, as a pickle; or the mark of a tar archive.
    let isOld =
      first.starts(with: [0x80, 0x02, 0x8A, 0x0A, 0x6C, 0xFC, 0x9C, 0x46, 0xF9])
      || (first.count >= 262 && first[257..<262].elementsEqual("ustar".utf8))
    return isOld
      ? "it is in the form that torch.save wrote before version 1.6; in Python, if you trust it, save it again: "
        + "torch.save(torch.load(FILE, map_location=\"cpu\"), NEW)"
      : "it is no zip archive, as torch.save writes them"
  }
}
