import Dist
import Foundation

/// The code that each rank runs in a test, which returns the exit code.
typealias Scenario = @Sendable (Communicator, [String]) throws -> Int32

/// Prints a line in one write, so that the lines of different ranks do not mix.
func say(_ line: String) { FileHandle.standardOutput.write(Data("\(line)\n".utf8)) }
