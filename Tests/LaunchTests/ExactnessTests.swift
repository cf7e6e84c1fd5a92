import Foundation
import TestSupport
import Testing

/// Runs `kinship bench exact`, which compares twenty steps of small models on several ranks with the same steps on one.
@Suite struct ExactnessTests {
  @Test(arguments: [2, 3, 4], [false, true]) func ranksComputeWhatOneDoes(ranks: Int, double: Bool) async throws {
    try await compare(ranks: ranks, double: double)
  }

  /// Sums in two levels are in another order, and no less exact.
  @Test(arguments: [(3, "1,2", true), (4, "2,2", false)])
  func twoLevelsComputeWhatOneRankDoes(ranks: Int, nodes: String, double: Bool) async throws {
    try await compare(ranks: ranks, double: double, ["--levels", "2"], ["KINSHIP_NODES": nodes])
  }

  private func compare(
    ranks: Int, double: Bool, _ options: [String] = [], _ environment: [String: String] = [:]
  ) async throws {
    let run = try await MPIRun.kinship(
      ["bench", "exact"] + (double ? ["--double"] : []) + options, ranks: ranks, environment: environment)
    try #require(run.status == 0, "\(run)")
    let line = try #require(run.output.split(separator: "\n").last)
    let report = try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
    #expect(report["precision"] as? String == (double ? "double" : "float") && report["ranks"] as? Int == ranks)
    let models = try #require(report["models"] as? [[String: Any]])
    #expect(models.map { $0["model"] as? String } == ["ViT", "ResNet", "ResNet, frozen in part"])
    for model in models {
      #expect(try #require(model["loss"] as? Double) < (double ? 1e-9 : 1e-5))
      let parameters = try #require(model["parameters"] as? [[String: Any]])
      #expect(parameters.count > 40)
      let still = parameters.filter { $0["largest"] as? Double == 0 }.compactMap { $0["name"] as? String }
      let isFrozen = (model["model"] as? String)?.hasSuffix("frozen in part") == true
      #expect(isFrozen == still.contains("visual.layer2.1.conv3.weight") && isFrozen == still.contains("ln_final.bias"))
      for parameter in parameters {
        let (largest, most) = (parameter["largest"] as? Double, parameter["most"] as? Double)
        #expect(try #require(largest) < 20 * 1e-4, "\(parameter)")
        let isFree = try #require(parameter["isFree"] as? Bool)
        let name = try #require(parameter["name"] as? String)
        #expect(isFree == (name.hasSuffix("in_proj_bias, keys") || name.hasSuffix("attnpool.k_proj.bias")))
        if !isFree { #expect(try #require(double ? largest : most) < (double ? 1e-9 : 2e-5), "\(parameter)") }
      }
    }
  }
}
