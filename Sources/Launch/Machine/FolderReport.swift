import Dist
import Foundation

/// What a folder is to the ranks of a job: whether they see the same files in it, and whether locks mean anything.
struct FolderReport: Sendable, Codable, Equatable {
  struct Seat: Sendable, Codable, Equatable {
    /// The file system's kind, as the kernel calls it.
    var system: String
    /// Bytes.
    var free: Int?
    /// Seconds until this rank saw what rank 0 had written, the bytes and not only the name; nil: not within the time.
    var seen: Double?
    /// What this rank got when rank 0 had locked the file, and rank 0 what it got at first; nothing where it sees no
    /// file.
    var locks: [String: LockTrial.Outcome] = [:]
    /// Whether rank 0 saw what this rank had written.
    var isSeen = false
    /// What else went wrong.
    var failure: String?
  }

  var folder: String
  /// By rank.
  var seats: [Seat]
}

extension FolderReport {
  /// Tries the folder, in which files are made and removed again. Every rank must call it.
  ///
  /// - Parameter patience: how long a rank waits for what another has written. Network file systems remember for
  ///   seconds that a file was not there.
  init(_ folder: String, over ranks: Communicator, patience: Double = 5) throws {
    self.folder = folder
    var token = [UInt8](UUID().uuidString.utf8)
    try ranks.broadcast(&token)
    let name = "\(folder)/kinship-doctor-" + String(decoding: token, as: UTF8.self)
    var seat = Seat(system: Self.system(of: folder), free: Self.free(in: folder))
    func attempt(_ body: () throws -> Void) {
      do { try body() } catch { seat.failure = seat.failure ?? "\(error)" }
    }
    if ranks.rank == 0 { attempt { try Data(token).write(to: URL(filePath: name)) } }
    try ranks.barrier()
    seat.seen = Self.wait(for: name, content: token, patience: ranks.rank == 0 ? 0 : patience)
    if seat.seen != nil { attempt { try Data(token).write(to: URL(filePath: "\(name)-\(ranks.rank)")) } }
    for kind in LockTrial.Kind.allCases {
      var trial: LockTrial?
      if seat.seen != nil { attempt { trial = try LockTrial(name) } }
      if ranks.rank == 0 { seat.locks[kind.rawValue] = trial?.lock(kind) }
      try ranks.barrier()
      if ranks.rank != 0 { seat.locks[kind.rawValue] = trial?.lock(kind) }
      try ranks.barrier()
      withExtendedLifetime(trial) {}
    }
    let own = try JSONEncoder().encode(seat)
    seats = try ranks.allGather([UInt8](own)).map { try JSONDecoder().decode(Seat.self, from: Data($0)) }
    var seen = seats.indices.map { rank in
      guard ranks.rank == 0, seats[rank].seen != nil else { return 0 }
      return Self.wait(for: "\(name)-\(rank)", content: token, patience: patience) == nil ? 0 : 1
    }
    try ranks.sum(&seen)
    for rank in seats.indices { seats[rank].isSeen = seen[rank] == 1 }
    try? FileManager.default.removeItem(atPath: "\(name)-\(ranks.rank)")
    try ranks.barrier()
    if ranks.rank == 0 { try? FileManager.default.removeItem(atPath: name) }
  }

  private static func wait(for path: String, content: [UInt8], patience: Double) -> Double? {
    let start = ContinuousClock.now
    while true {
      let waited = (ContinuousClock.now - start) / .seconds(1)
      if FileManager.default.contents(atPath: path) == Data(content) { return waited }
      if waited >= patience { return nil }
      Thread.sleep(forTimeInterval: 0.02)
    }
  }

  private static func free(in folder: String) -> Int? {
    let found = try? FileManager.default.attributesOfFileSystem(forPath: folder)
    return (found?[.systemFreeSize] as? NSNumber)?.intValue
  }

  /// The kind of the mount that is nearest above.
  private static func system(of folder: String) -> String {
    let path = URL(filePath: folder).resolvingSymlinksInPath().path
    let mounts = (try? String(contentsOfFile: "/proc/self/mounts", encoding: .utf8)) ?? ""
    let kinds = mounts.split(separator: "\n").compactMap { line -> (String, String)? in
      let words = line.split(separator: " ")
      guard words.count > 2 else { return nil }
      let place = String(words[1])
      return path == place || path.hasPrefix(place == "/" ? "/" : "\(place)/") ? (place, String(words[2])) : nil
    }
    // The later of two at one place hides the earlier.
    return kinds.reversed().max { $0.0.count < $1.0.count }?.1 ?? "unknown"
  }
}
