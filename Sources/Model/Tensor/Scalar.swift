public import RealModule

/// The number type of a model: Float to train, Double to prove.
///
/// Layers and terms are written once over `Scalar`. Each kernel is a generic function that the compiler specializes
/// for Float and for Double, so a generic caller pays one dispatch a kernel, not one an element.
public protocol Scalar: Real, BinaryFloatingPoint, SIMDScalar, Codable, Sendable, VectorMath, MatrixProduct,
  RoundedProduct
{}

extension Float: Scalar {}
extension Double: Scalar {}
