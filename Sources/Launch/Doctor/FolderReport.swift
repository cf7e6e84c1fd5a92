import Dist
import Foundation

/// Tests whether the ranks of a job see the same files in a folder, and whether file locks work there.
struct FolderReport: Sendable, Codable, Equatable {
  struct Seat: Sendable, Codable, Equatable {
    /// The file system's kind, by the kernel.
    var system: String
    var free: Int?
    /// The seconds until this rank saw the bytes that rank 0 had written; nil if it did not see them in time.
    var seen: Double?
    /// The outcomes of this rank's locks when rank 0 had locked the file; empty if the rank sees no file.
    var locks: [String: LockTrial.Outcome] = [:]
    /// True if rank 0 saw what this rank had written.
    var isSeen = false
    /// The first other error.
    var failure: String?
  }

  var folder: String
  var seats: [Seat]
}

extension FolderReport {
  /// Tests the folder, in which files are made and removed again. Every rank must call it. A rank waits `patience`
  /// seconds for what another has written: network file systems remember for seconds that a file did not exist.
  init(_ folder: String, over ranks: Communicator, patience: Double = 5) throws {
    self.folder = folder
    var token = [UInt8](UUID().uuidString.utf8)
    try ranks.broadcast(&token)
    let name = "\(folder)/kinship-doctor-" + String(decoding: token, as: UTF8.self)
    var seat = Seat(system: Self.system(of: folder), free: Self.free(in: folder))
    func attempt(_ body: () throws -> Void) {
      do { try body() } catch { seat.failure = seat.failure ?? error.explanation }
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
    seats = try ranks.allGather(seat)
    var seen = seats.enumerated().map { rank, seat in
      guard ranks.rank == 0, seat.seen != nil else { return 0 }
      return Self.wait(for: "\(name)-\(rank)", content: token, patience: patience) == nil ? 0 : 1
    }
    try ranks.allReduce(&seen)
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

  /// Returns the kind of the nearest mount at or above the folder.
  private static func system(of folder: String) -> String {
    let path = URL(filePath: folder).resolvingSymlinksInPath().path
    let mounts = SystemFile.text("/proc/self/mounts") ?? ""
    let kinds = mounts.split(separator: "\n").compactMap { line -> (String, String)? in
      let words = line.split(separator: " ")
      guard words.count > 2 else { return nil }
      let place = String(words[1])
      return path == place || path.hasPrefix(place == "/" ? "/" : "\(place)/") ? (place, String(words[2])) : nil
    }
    // Of two mounts at the same place the later one hides the earlier.
    return kinds.reversed().max { $0.0.count < $1.0.count }?.1 ?? "unknown"
  }

  /// The results as lines of text.
  var lines: [String] {
    let systems = Set(seats.map(\.system)).sorted().joined(separator: ", ")
    let free = seats.compactMap(\.free).min().map { ", \(Figures.bytes($0)) free" } ?? ""
    let slowest = seats.compactMap(\.seen).max() ?? 0
    let everyone = "all ranks see what rank 0 wrote, within \(Figures.fixed(slowest, 2)) s"
    let locks = LockTrial.Kind.allCases.map { "\($0.rawValue) \(text(of: $0))" }
    return [
      "folder \(folder)", DoctorReport.fact("file system", systems + free),
      DoctorReport.fact("shared", blind.isEmpty ? everyone : "not by \(Diagnosis.name(blind))"),
      DoctorReport.fact("locks", locks.joined(separator: ", ")),
    ]
  }

  /// The ranks that did not see what rank 0 wrote.
  private var blind: [Int] { seats.indices.filter { seats[$0].seen == nil } }

  private func text(of kind: LockTrial.Kind) -> String {
    let mine = seats[0].locks[kind.rawValue]
    if case .failed(let reason) = mine { return "refused (\(reason))" }
    guard mine == .granted else { return "not tried" }
    // A rank that got a lock that rank 0 held shows that locks do not work between nodes.
    let isIgnored = seats.dropFirst().contains { $0.locks[kind.rawValue] == .granted }
    return isIgnored ? "ignored between nodes" : "works"
  }

  /// Returns the problems with the folder, each with its solution.
  func findings(_ reports: [RankReport]) -> [String] {
    if blind.contains(0) {
      return ["\(folder) cannot be written: \(seats[0].failure ?? "unknown reason"); name another folder"]
    }
    var found: [String] = []
    let unseen = seats.indices.filter { seats[$0].seen != nil && !seats[$0].isSeen }
    if !blind.isEmpty {
      let hosts = Set(blind.map { reports[$0].hostname }).sorted().joined(separator: ", ")
      found.append(
        "\(Diagnosis.name(blind)) (\(hosts)) \(blind.count == 1 ? "does" : "do") not see what rank 0 writes to"
          + " \(folder); run folders and datasets must be on a file system that all nodes share")
    }
    if !unseen.isEmpty {
      let reason = unseen.compactMap { seats[$0].failure }.first
      found.append(
        "rank 0 does not see what \(Diagnosis.name(unseen)) \(unseen.count == 1 ? "writes" : "write") to \(folder)"
          + (reason.map { " (\($0))" } ?? "; mount it with less caching (NFS: actimeo=1)"))
    }
    let refused = LockTrial.Kind.allCases.filter { kind in
      seats.contains { if case .failed = $0.locks[kind.rawValue] { true } else { false } }
    }
    if refused.contains(.flock), !reports.contains(where: { $0.host.fileLocking?.uppercased() == "FALSE" }) {
      found.append(
        "\(folder) does not support file locks, which HDF5 asks for; type export HDF5_USE_FILE_LOCKING=FALSE"
          + " (mpirun -x HDF5_USE_FILE_LOCKING)")
    }
    return found
  }
}
