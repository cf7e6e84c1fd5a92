import Dist
import Foundation
import Tensor
import TestSupport
import Testing

/// Weights in several files with an index, which is untrusted.
@Suite struct ShardedSafetensorsTests {
  let folder = try! TemporaryFolder()

  private func write(_ file: String, _ tensors: [String: [Float]], _ metadata: [String: String] = [:]) throws {
    try SafetensorsFile.write(
      tensors.sorted { $0.key < $1.key }.map {
        SafetensorsEntry($0.key, Tensor<Float>(Shape($0.value.count), $0.value))
      },
      metadata: metadata, to: folder.path(file))
  }

  private func open(_ index: String) throws -> ShardedSafetensors {
    try ShardedSafetensors(folder.write("model.safetensors.index.json", index.utf8))
  }

  private func twoFiles() throws {
    try write("one.safetensors", ["a": [1, 2], "b": [3]], ["format": "pt"])
    try write("two.safetensors", ["c": [4, 5, 6]])
  }

  @Test func readsEveryTensorFromItsFile() throws {
    try twoFiles()
    let file = try open(
      #"{"metadata": {"total_size": 24}, "weight_map": {"c": "two.safetensors", "#
        + #""a": "one.safetensors", "b": "one.safetensors"}}"#)
    #expect(file.names == ["a", "b", "c"] && file.metadata == ["format": "pt"])
    #expect(file.contains("c") && !file.contains("d"))
    #expect(try file.shape(of: "c") == Shape(3) && file.type(of: "a") == .float32)
    let (whole, part) = (Tensor<Float>(Shape(2)), Tensor<Float>(Shape(2)))
    try file.read("a", into: whole)
    try file.read("c", elements: 1..<3, into: part)
    #expect(whole.array == [1, 2] && part.array == [5, 6])
    #expect(throws: SafetensorsError.self) { try file.read("d", into: whole) }
  }

  @Test(arguments: [
    ("[]", "it has no object weight_map"), (#"{"weight_map": 3}"#, "it has no object weight_map"),
    (#"{"weight_map": {}}"#, "its weight_map is empty"), ("{", "it is not JSON as expected"),
    (#"{"weight_map": {"a": 1}}"#, "it lists the tensor a in a number, expected the name of a file"),
    (
      #"{"weight_map": {"a": "../one.safetensors"}}"#,
      #"in "../one.safetensors", expected the name of a safetensors file"#
    ),
    (#"{"weight_map": {"a": "/etc/passwd"}}"#, #"in "/etc/passwd", expected"#),
    (#"{"weight_map": {"a": "one.pt"}}"#, #"in "one.pt", expected"#),
    (#"{"weight_map": {"a": "three.safetensors"}}"#, "three.safetensors"),
    (
      #"{"weight_map": {"a": "two.safetensors", "b": "one.safetensors", "c": "two.safetensors"}}"#,
      "it lists the tensor a in two.safetensors, which does not contain it"
    ),
    (
      #"{"weight_map": {"a": "one.safetensors", "z": "one.safetensors"}}"#,
      "it lists the tensor z in one.safetensors, which does not contain it"
    ),
    (#"{"weight_map": {"a": "one.safetensors"}}"#, "its files hold the tensor b, which it does not list"),
    (
      #"{"weight_map": {"a": "one.safetensors", "c": "again.safetensors"}}"#,
      "the tensor a is in more than one of its files"
    ),
    (#"{"weight_map": {"a": "broken.safetensors"}}"#, "broken.safetensors: its header claims"),
  ])
  func refuses(index: String, reason: String) throws {
    try twoFiles()
    try write("again.safetensors", ["a": [1, 2], "c": [1]])
    try folder.write("broken.safetensors", [UInt8](repeating: 9, count: 20))
    let error = try #require(throws: SafetensorsError.self) { try open(index) }
    #expect("\(error)".contains(reason), "\(error)")
  }
}
