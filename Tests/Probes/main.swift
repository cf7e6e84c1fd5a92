// Usage: Probes NAME [ARGUMENT …]. Every rank of a job runs the same scenario of a test.
import Dist
import Foundation

let scenarios = [
  checkpointProbes, collectiveProbes, failureProbes, fileProbes, lossProbes, nodeProbes, placementProbes, reduceProbes,
  resNetProbes, stageProbes, threadProbes,
].reduce(
  into: [String: Scenario]()
) {
  $0.merge($1) { first, _ in first }
}

guard let name = CommandLine.arguments.dropFirst().first, let scenario = scenarios[name] else {
  FileHandle.standardError.write(
    Data("usage: Probes NAME [ARGUMENT …]; names: \(scenarios.keys.sorted().joined(separator: ", "))\n".utf8))
  exit(64)
}
let arguments = Array(CommandLine.arguments.dropFirst(2))
exit(Job.run { communicator in try scenario(communicator, arguments) })
