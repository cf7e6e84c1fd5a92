public import Dist
import Foundation
public import Model

/// A mistake in what the user gave to the program. The message names the path, option or key, says what is wrong with
/// it, and tells what to change.
struct UserError: ExitCoded, CustomStringConvertible {
  /// The path, option or key; nil if the reason names it.
  let path: String?
  let reason: String
  let status: ExitStatus
  let isShared: Bool

  init(_ path: String?, _ reason: String, status: ExitStatus = .badData, isShared: Bool = false) {
    (self.path, self.reason, self.status, self.isShared) = (path, reason, status, isShared)
  }

  /// A mistake whose reason names the path, option or key.
  init(_ reason: String, status: ExitStatus = .badData, isShared: Bool = false) {
    self.init(nil, reason, status: status, isShared: isShared)
  }

  var description: String { path.map { "\($0): \(reason)" } ?? reason }
}

extension Error {
  /// The reason that the system gives for a failed call of Foundation's, or the error itself as text.
  var systemReason: String { (self as NSError).localizedFailureReason ?? "\(self)" }
}

extension Communicator {
  /// Throws an error that all ranks share if `text` is not the same on every rank. Every rank must call it.
  /// Ranks with different options would wait for each other in different collectives. Ranks with different files, which
  /// is possible because each node may have its own disk, would train on data that no run file describes.
  func requireSame(_ what: String, _ text: String) throws {
    let all = try allGather(SHA256.hash(text.utf8).bytes + [UInt8](hostname.utf8))
    let length = SHA256.byteCount
    let others = all.indices.filter { all[$0].prefix(length) != all[0].prefix(length) }
    guard !others.isEmpty else { return }
    // At most eight of the ranks with their hosts: `rank 3 on node1`, `ranks 3, 4, 5 on node1, node2`.
    let shown = others.prefix(8)
    let more = others.count > shown.count ? " and \(others.count - shown.count) more" : ""
    let hosts = Set(shown.map { String(decoding: all[$0].dropFirst(length), as: UTF8.self) }).sorted()
    let (ranks, was, has) = others.count == 1 ? ("rank", "was", "has") : ("ranks", "were", "have")
    let who = "\(ranks) \(shown.map(String.init).joined(separator: ", "))\(more) on \(hosts.joined(separator: ", "))"
    let reason =
      switch what {
      case "run":
        "\(who) \(was) started with a different run file or options than rank 0: start all with the same run file, "
          + "--set, --resume and other options"
      case "program": "\(who) \(has) a different program than rank 0: copy the same build of kinship to all nodes"
      default: "\(who) \(has) a different \(what) than rank 0: copy the same files to all nodes"
      }
    throw UserError(nil, reason, status: what == "run" ? .usage : .badData, isShared: true)
  }
}

extension VocabularyError: ExitCoded {
  /// The exit code, which separates files that the system refuses, wrong contents, and wrong options.
  public var status: ExitStatus {
    switch self {
    case .unreadable, .unwritable: .inputOutput
    case .malformed, .unknownSymbol, .empty: .badData
    case .tooManyMerges: .usage
    }
  }
}

extension ImageError: ExitCoded { public var status: ExitStatus { .badData } }

extension ConfigError: ExitCoded { public var status: ExitStatus { .badData } }
