public import Tensor

/// Every exit code of the program. Codes from 64 to 75 have the meanings of sysexits.h.
public enum ExitStatus: Int32, Sendable, Codable, CaseIterable {
  case done = 0
  case usage = 64
  case badData = 65
  case internalError = 70
  case inputOutput = 74
  case tryAgain = 75
  case notFinite = 76
  case stalled = 77
  case inUse = 78

  /// The meaning of the code, for the help text and the manual.
  public var meaning: String {
    switch self {
    case .done: "done"
    case .usage: "the command line or the run file is wrong"
    case .badData: "a file's contents are wrong, or do not fit the rest"
    case .internalError: "an internal error, an MPI error, or a thread that the system refuses"
    case .inputOutput: "a file cannot be read or written"
    case .tryAgain: "stopped by a signal with everything saved; start again with --resume auto"
    case .notFinite: "a loss, a gradient or an embedding is not finite"
    case .stalled: "the ranks did not meet, or one made no progress, before the deadline"
    case .inUse: "another job is writing to the folder"
    }
  }
}

/// An error with the status with which it ends the program. Any other error ends it with `internalError`.
public protocol ExitCoded: Error {
  var status: ExitStatus { get }
  /// True if all ranks throw the same error at the same point, so that the job waits for the slowest to do so.
  var isShared: Bool { get }
}

extension ExitCoded { public var isShared: Bool { false } }

/// The program is as it should be, and so are its files: the message has the limits of the system.
extension ThreadError: ExitCoded { public var status: ExitStatus { .internalError } }
