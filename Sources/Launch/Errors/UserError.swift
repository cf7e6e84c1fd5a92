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

extension Communicator {
  /// Throws a `RankDifference` unless all ranks were started with the same run file and options: otherwise they would
  /// wait for each other in different collectives. Every rank must call it.
  func requireSameStart(_ options: String) throws {
    try requireSame(
      "run file or options", options, verbs: ("was started with", "were started with"),
      advice: "start all with the same run file, --set, --resume and other options", status: .usage)
  }
}

extension VocabularyError: ExitCoded {
  /// The exit code, which separates files that the system refuses, wrong contents, and wrong options.
  public var status: ExitStatus {
    switch self {
    case .unreadable, .unwritable: .inputOutput
    case .damaged, .malformed, .unknownSymbol, .empty, .noHeader, .mergesMissing: .badData
    case .tooManyMerges: .usage
    }
  }
}

extension ImageError: ExitCoded { public var status: ExitStatus { .badData } }

extension ConfigError: ExitCoded { public var status: ExitStatus { .badData } }
