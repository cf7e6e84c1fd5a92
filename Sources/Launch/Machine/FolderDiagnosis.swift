import Dist
import Foundation

extension FolderReport {
  var lines: [String] {
    let systems = Set(seats.map(\.system)).sorted().joined(separator: ", ")
    let free = seats.compactMap(\.free).min().map { ", \(Figures.bytes($0)) free" } ?? ""
    let slowest = seats.compactMap(\.seen).max() ?? 0
    let blind = seats.indices.filter { seats[$0].seen == nil }
    return [
      "folder \(folder)",
      "  file system    \(systems)\(free)",
      "  shared         "
        + (blind.isEmpty
          ? "all ranks see what rank 0 wrote, within \(Figures.fixed(slowest, 2)) s"
          : "not by \(Diagnosis.name(blind))"),
      "  locks          " + LockTrial.Kind.allCases.map { "\($0.rawValue) \(text(of: $0))" }.joined(separator: ", "),
    ]
  }

  private func text(of kind: LockTrial.Kind) -> String {
    let mine = seats[0].locks[kind.rawValue]
    if case .failed(let reason) = mine { return "refused (\(reason))" }
    guard mine == .granted else { return "not tried" }
    return isIgnored(kind).isEmpty ? "works" : "ignored between nodes"
  }

  /// Ranks that were given a lock that rank 0 had.
  private func isIgnored(_ kind: LockTrial.Kind) -> [Int] {
    seats.indices.dropFirst().filter { seats[$0].locks[kind.rawValue] == .granted }
  }

  /// What is wrong with the folder, and what to type.
  func findings(_ reports: [RankReport]) -> [String] {
    var found: [String] = []
    let blind = seats.indices.filter { seats[$0].seen == nil }
    let unseen = seats.indices.filter { seats[$0].seen != nil && !seats[$0].isSeen }
    if blind.contains(0) {
      found.append("\(folder) cannot be written: \(seats[0].failure ?? "unknown reason"); name another folder")
      return found
    }
    if !blind.isEmpty {
      found.append(
        "\(Diagnosis.name(blind)) (\(Set(blind.map { reports[$0].hostname }).sorted().joined(separator: ", "))) \(blind.count == 1 ? "does" : "do") not see"
          + " what rank 0 writes to \(folder); run folders and corpora must be on a file system that all nodes share")
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
        "\(folder) does not know locks, and HDF5 asks for them; type export HDF5_USE_FILE_LOCKING=FALSE"
          + " (mpirun -x HDF5_USE_FILE_LOCKING)")
    }
    return found
  }
}
