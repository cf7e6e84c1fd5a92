import Dist
import Foundation
import Model
import TestSupport
import Testing

@testable import Launch

/// What does not fit into memory is refused before it is allocated.
@Suite struct NodeMemoryTests {
  private func share(ofRanks ranks: Int, _ files: [String: String]) throws -> Int? {
    let root = try TemporaryFolder()
    for (name, text) in files { try root.write(name, text.utf8) }
    return NodeMemory.share(ofRanks: ranks, threads: 3, root: root.url.path)
  }

  private static let machine = ["proc/meminfo": "MemTotal: 99 kB\nMemAvailable:     900000 kB\nSwapFree: 100000 kB\n"]

  @Test func whatTheMachineHas() throws {
    #expect(try share(ofRanks: 1, [:]) == nil)
    #expect(try share(ofRanks: 1, Self.machine) == 1_024_000_000)
    #expect(try share(ofRanks: 4, Self.machine) == 256_000_000)
  }

  /// A group's own limit or that of one around it; files in the page cache can be dropped. A container of version 1
  /// does not see the folders of its path.
  @Test(arguments: [
    (
      "0::/outer/inner\n", "sys/fs/cgroup/outer",
      [
        "memory.max": "500000000\n", "memory.current": "200000000\n",
        "memory.stat": "anon 5\ninactive_file 40000000\nactive_file 10000000\n", "inner/memory.max": "max\n",
        "inner/memory.current": "1\n",
      ]
    ),
    (
      "9:cpu:/\n5:memory:/docker/1\n", "sys/fs/cgroup/memory",
      [
        "memory.limit_in_bytes": "500000000\n", "memory.usage_in_bytes": "200000000\n",
        "memory.stat": "inactive_file 1\ntotal_inactive_file 40000000\ntotal_active_file 10000000\n",
      ]
    ),
  ])
  func whatAControlGroupLeaves(path: String, group: String, files: [String: String]) throws {
    var all = Self.machine.merging(["proc/self/cgroup": path]) { $1 }
    for (name, text) in files { all["\(group)/\(name)"] = text }
    #expect(try share(ofRanks: 1, all) == 350_000_000)
    #expect(try share(ofRanks: 2, all) == 175_000_000)
  }

  /// `ulimit -v` holds for each process by itself, and the buffers of three threads and a reserve are taken off.
  @Test(arguments: [
    ("1000000000", 1_000_000_000 - 1_024_000 - 512 << 20), ("500000000", 0), ("unlimited", 512_000_000),
  ])
  func addressesThatAreLeft(limit: String, expected: Int) throws {
    let limits = "Limit Soft Hard Units\nMax address space         \(limit)           unlimited            bytes\n"
    let files = ["proc/self/limits": limits, "proc/self/status": "Name:\tkinship\nVmSize:\t    1000 kB\n"]
    #expect(try share(ofRanks: 2, Self.machine.merging(files) { $1 }) == expected)
  }

  @Test func demandsAreRefusedInWords() throws {
    func demand(_ bytes: Int) -> MemoryDemand {
      MemoryDemand(subject: "this test", parts: [.init(name: "weights", bytes: bytes)], advice: "ask for less")
    }
    try demand(1).require()
    let error = #expect(throws: UserError.self) { try demand(1 << 60).require() }
    #expect(error?.status == .usage)
    let words = "this test takes about 1048576 TiB of memory (weights 1048576 TiB), and "
    #expect(error?.description.hasPrefix(words) == true && error?.description.hasSuffix("free: ask for less") == true)
  }

  /// Sizes that a config may have, of which an estimate would exceed 64 bits.
  @Test(arguments: [(1 << 24, 1 << 15, 5), (16, 8, 1 << 24)])
  func sizesBeyondCounting(imageSize: Int, patchSize: Int, context: Int) throws {
    let config = CLIPConfig(
      embedding: 8, vision: VisionConfig(imageSize: imageSize, patchSize: patchSize, width: 8, layers: 1, headWidth: 8),
      text: TextConfig(contextLength: context, vocabularySize: 9, width: 8, heads: 1, layers: 1))
    try config.validate()
    for pairs in [1, 1 << 31] {
      #expect(throws: UserError.self) { try config.memory(pairs: pairs, use: .training) }
    }
  }

  /// Blocks of a pruned model have heads of their own, which count among its parameters.
  @Test func headsBeyondCounting() {
    let blocks = """
      {"head_width": 16777216, "heads": [16777216], "hidden": [8], "full_width": 8, "full_heads": 16777216,
       "full_hidden": 8}
      """
    let json = """
      {"embed_dim": 8, "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 8, "layers": 1, "blocks": \(blocks)},
       "text_cfg": {"context_length": 5, "vocab_size": 9, "width": 8, "heads": 1, "layers": 1}}
      """
    let error = #expect(throws: ConfigError.self) { try CLIPConfig(json: Data(json.utf8)) }
    #expect(error?.description.hasPrefix("a model of this config has about ") == true)
  }

  @Test func stepsBeyondCounting() throws {
    var run = try RunFileTests.decode(RunFileTests.least)
    let sampler = try Sampler(datasets: [(count: 4096, weight: 1)], batch: 1024, seed: 0, wrap: false)
    #expect(try run.totalSteps(sampler) == 10)
    run.steps = 1 << 44
    #expect(throws: UserError.self) { try run.totalSteps(sampler) }
    (run.steps, run.epochs) = (nil, 3)
    #expect(try run.totalSteps(sampler) == 12)
    run.epochs = 1 << 53
    #expect(throws: UserError.self) { try run.totalSteps(sampler) }
  }
}
