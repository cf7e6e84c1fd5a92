public import Tensor

/// A file of weights, whatever its form: named tensors whose numbers are read when they are asked for, from any thread.
public protocol NamedTensors: Sendable {
  var path: String { get }
  /// In the file's own order.
  var names: [String] { get }
  /// What the writer has said about the weights, where the form has room for it.
  var metadata: [String: String] { get }

  func contains(_ name: String) -> Bool
  /// The shape of a tensor; `[]` is one number. More than four sizes are an error.
  func shape(of name: String) throws -> Shape
  func type(of name: String) throws -> SafetensorsType
  /// Fills a tensor of the same count with floating-point numbers, rounded to nearest where `S` is narrower than the
  /// file's type; integers are an error.
  func read<S: Scalar>(_ name: String, into tensor: Tensor<S>) throws
  /// The same for some of a tensor's numbers, row-major; reads no more than it must.
  func read<S: Scalar>(_ name: String, elements: Range<Int>, into tensor: Tensor<S>) throws
  /// A tensor of integers, row-major.
  func integers(_ name: String) throws -> [Int]
}

extension SafetensorsFile: NamedTensors {}
