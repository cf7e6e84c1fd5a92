import Dist
import Foundation
import Tensor
import TestSupport
import Testing

@Suite struct PyTorchFileTests {
  let folder = try! TemporaryFolder()

  private func file(_ bytes: [UInt8]) throws -> PyTorchFile { try PyTorchFile(try folder.write("a.pt", bytes)) }

  private func values(_ file: PyTorchFile, _ name: String) throws -> [Double] {
    let tensor = Tensor<Double>(try file.shape(of: name))
    try file.read(name, into: tensor)
    return tensor.array
  }

  @Test(arguments: [false, true], [false, true])
  func readsStateDicts(training: Bool, wide: Bool) throws {
    let file = try file(
      TorchArchive.checkpoint(
        [
          .init("b", [2, 3], [1, 2, 3, 4, 5, 6]), .init("module.a", [], [0.5]), .init("n", [], integers: [-7]),
          .init("none", [0, 4], []),
        ], training: training, wide: wide))
    #expect(file.names == ["b", "module.a", "n", "none"])
    #expect(try values(file, "b") == [1, 2, 3, 4, 5, 6])
    #expect(try file.shape(of: "b") == Shape(2, 3))
    #expect(try file.type(of: "b") == .float32)
    #expect(try values(file, "module.a") == [0.5])
    #expect(try file.shape(of: "module.a") == Shape())
    #expect(try file.integers("n") == [-7])
    #expect(try values(file, "none") == [])
    #expect(file.contains("n") && !file.contains("m"))
  }

  /// OpenAI's state dicts have sizes of the model beside its weights; other numbers are still refused.
  @Test func leavesOutNumbersThatAreSizes() throws {
    func dictionary(_ name: String) throws -> PyTorchFile {
      let weights = Pickle.tensor(key: "0", count: 1, offset: 0, shape: [1], strides: [1])
      let program = Pickle.program(Pickle.dictionary([(name, Pickle.integer(9)), ("a", weights)]))
      return try file(TorchArchive.archive(program, [("0", Pickle.little(Float(2).bitPattern))]))
    }
    for name in ["vocab_size", "module.input_resolution"] { #expect(try dictionary(name).names == ["a"]) }
    #expect(throws: PyTorchError.self) { try dictionary("my_vocab_size") }
  }

  @Test func readsEveryTypeOfNumber() throws {
    let file = try file(
      TorchArchive.checkpoint([
        .init("half", [2], type: "HalfStorage", bytes: [0x00, 0x3E, 0x00, 0xC0]),
        .init("brain", [2], type: "BFloat16Storage", bytes: [0xC0, 0x3F, 0x80, 0xFF]),
        .init("double", [1], type: "DoubleStorage", bytes: Pickle.little(Double.pi.bitPattern)),
        .init("int", [1], type: "IntStorage", bytes: [0xFD, 255, 255, 255]),
        .init("long", [1], integers: [.min]),
      ]))
    #expect(try values(file, "half") == [1.5, -2])
    #expect(try values(file, "brain") == [1.5, -.infinity])
    #expect(try values(file, "double") == [.pi])
    #expect(try file.integers("int") == [-3])
    #expect(try file.integers("long") == [.min])
    let wrong = #expect(throws: PyTorchError.self) { try file.integers("half") }
    #expect(wrong?.reason == "tensor half holds F16, expected integers")
    #expect(
      #expect(throws: PyTorchError.self) { try values(file, "long") }?.reason
        == "tensor long holds I64, expected floating-point numbers")
    #expect(
      #expect(throws: PyTorchError.self) { try file.read("half", into: Tensor<Float>(Shape(3))) }?.reason
        == "tensor half has the shape [2], expected [3]")
    #expect(
      #expect(throws: PyTorchError.self) { try file.type(of: "x") }?.reason
        == "it has no tensor x; it has 5, among them half, brain, double, int, long")
  }

  /// Views of one storage: all of it, a transpose, a column, and one number many times.
  @Test func readsViewsOfAStorage() throws {
    func view(_ offset: Int, _ shape: [Int], _ strides: [Int]) -> [UInt8] {
      Pickle.tensor(key: "0", count: 6, offset: offset, shape: shape, strides: strides)
    }
    let parameter = Pickle.call(
      Pickle.global("torch._utils", "_rebuild_parameter"), [view(0, [6], [1]), [0x88], Pickle.none])
    let numbers: [Float] = [0, 1, 2, 3, 4, 5]
    let file = try file(
      TorchArchive.archive(
        Pickle.program(
          Pickle.dictionary([
            ("whole", view(0, [2, 3], [3, 1])), ("transpose", view(0, [3, 2], [1, 3])),
            ("column", view(1, [2], [3])), ("same", view(4, [3], [0])), ("tail", view(4, [1, 2], [7, 1])),
            ("parameter", parameter),
          ])), [("0", numbers.flatMap { Pickle.little($0.bitPattern) })]))
    #expect(try values(file, "whole") == [0, 1, 2, 3, 4, 5])
    #expect(try values(file, "transpose") == [0, 3, 1, 4, 2, 5])
    #expect(try values(file, "column") == [1, 4])
    #expect(try values(file, "same") == [4, 4, 4])
    #expect(try values(file, "tail") == [4, 5])
    #expect(try values(file, "parameter") == [0, 1, 2, 3, 4, 5])
  }
}
