internal import CHDF5

/// The stored type of the numbers in a data set, little-endian on every machine.
public enum HDF5Type: String, CaseIterable, Sendable {
  case uint8 = "u8"
  case int32 = "i32"
  case int64 = "i64"
  case uint64 = "u64"
  case float16 = "f16"
  /// The upper half of a Float: 8 bits of exponent and 7 of fraction.
  case bfloat16 = "bf16"
  case float32 = "f32"
  case float64 = "f64"

  /// The bytes of one element.
  public var size: Int {
    switch self {
    case .uint8: 1
    case .float16, .bfloat16: 2
    case .int32, .float32: 4
    case .int64, .uint64, .float64: 8
    }
  }

  private var isFloat: Bool { [.float16, .bfloat16, .float32, .float64].contains(self) }
  /// Returns true if every value of this type is also a value of `other`, so that reading may convert it.
  func widens(to other: HDF5Type) -> Bool { self == other || (isFloat && other.isFloat && size < other.size) }

  /// Creates the library's type, which the caller must close. Must be called inside `HDF5Library.locked`.
  func make(_ place: HDF5Place) throws(HDF5Error) -> hid_t {
    switch self {
    case .uint8: try place.copyType(kinship_h5_u8())
    case .int32: try place.copyType(kinship_h5_i32())
    case .int64: try place.copyType(kinship_h5_i64())
    case .uint64: try place.copyType(kinship_h5_u64())
    case .float32: try place.copyType(kinship_h5_f32())
    case .float64: try place.copyType(kinship_h5_f64())
    case .float16: try half(exponent: 5, bias: 15, place)
    case .bfloat16: try half(exponent: 8, bias: 127, place)
    }
  }

  /// Creates a 16-bit float type: a sign, `exponent` bits, and the fraction.
  private func half(exponent: Int, bias: Int, _ place: HDF5Place) throws(HDF5Error) -> hid_t {
    let fraction = 15 - exponent
    return try place.copyType(kinship_h5_f32()) { type throws(HDF5Error) in
      // The fields come first, because the library refuses a size that they do not fit.
      try place.check(H5Tset_fields(type, 15, fraction, exponent, 0, fraction), "H5Tset_fields")
      try place.check(H5Tset_ebias(type, bias), "H5Tset_ebias")
      try place.check(H5Tset_size(type, 2), "H5Tset_size")
    }
  }

  /// Returns which of these types the library's `type` is, or nil. Must be called inside `HDF5Library.locked`.
  static func named(_ type: hid_t, _ place: HDF5Place) throws(HDF5Error) -> HDF5Type? {
    for candidate in allCases {
      let own = try candidate.make(place)
      defer { H5Tclose(own) }
      if H5Tequal(own, type) > 0 { return candidate }
    }
    return nil
  }
}

extension HDF5Place {
  /// Copies a type of the library's and changes the copy, which the caller must close.
  func copyType(
    _ type: hid_t, changing change: (hid_t) throws(HDF5Error) -> Void = { _ in }
  ) throws(HDF5Error) -> hid_t {
    let copy = try check(H5Tcopy(type), "H5Tcopy")
    do throws(HDF5Error) { try change(copy) } catch {
      H5Tclose(copy)
      throw error
    }
    return copy
  }
}

/// A Swift type that has the memory layout of a stored type.
public protocol HDF5Element: BitwiseCopyable, Sendable {
  static var hdf5Type: HDF5Type { get }
}

extension UInt8: HDF5Element { public static var hdf5Type: HDF5Type { .uint8 } }
extension Int32: HDF5Element { public static var hdf5Type: HDF5Type { .int32 } }
extension Int64: HDF5Element { public static var hdf5Type: HDF5Type { .int64 } }
extension Int: HDF5Element { public static var hdf5Type: HDF5Type { .int64 } }
extension UInt64: HDF5Element { public static var hdf5Type: HDF5Type { .uint64 } }
extension Float16: HDF5Element { public static var hdf5Type: HDF5Type { .float16 } }
extension Float: HDF5Element { public static var hdf5Type: HDF5Type { .float32 } }
extension Double: HDF5Element { public static var hdf5Type: HDF5Type { .float64 } }

/// The upper half of a Float, rounded to nearest, ties to even.
public struct BFloat16: HDF5Element, Hashable {
  public static var hdf5Type: HDF5Type { .bfloat16 }
  public var bitPattern: UInt16
  public init(bitPattern: UInt16) { self.bitPattern = bitPattern }

  public init(_ value: Float) {
    let bits = value.bitPattern
    let rounded = UInt16(truncatingIfNeeded: (bits &+ 0x7FFF &+ ((bits >> 16) & 1)) >> 16)
    // Rounding could clear a NaN's fraction and leave an infinity, so it becomes a quiet NaN instead.
    bitPattern = value.isNaN ? UInt16(bits >> 16) | 0x40 : rounded
  }

  /// The same number as a Float, without rounding.
  public var float: Float { Float(bitPattern: UInt32(bitPattern) << 16) }
}
