import Dist
import Foundation

/// What one rank does in a test; the exit code.
typealias Scenario = @Sendable (Communicator, [String]) throws -> Int32

/// One line of output in one write, so that the ranks' lines do not mix.
func say(_ line: String) { FileHandle.standardOutput.write(Data("\(line)\n".utf8)) }
