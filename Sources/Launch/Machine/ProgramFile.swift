import Foundation

extension Machine {
  /// The SHA-256 of this very program: ranks of different builds would not compute the same.
  static var programSHA256: String {
    get throws {
      #if os(Linux)
        // The file that was started, even if another has taken its name since.
        try SavedRun.sha256(of: "/proc/self/exe")
      #else
        try SavedRun.sha256(of: Bundle.main.executablePath ?? CommandLine.arguments[0])
      #endif
    }
  }
}
