/// Archives of arrays for tests, as numpy.savez writes them.
public enum NumpyArchive {
  /// Returns the file of an array, as numpy.save writes it, whose type numpy calls `type`.
  public static func array(_ type: String, _ shape: [Int], _ bytes: [UInt8], byColumns: Bool = false) -> [UInt8] {
    let sizes = shape.map { "\($0)," }.joined(separator: " ")
    var text = "{'descr': '\(type)', 'fortran_order': \(byColumns ? "True" : "False"), 'shape': (\(sizes)), }"
    text += String(repeating: " ", count: 63 - (10 + text.utf8.count) % 64) + "\n"
    return [0x93] + Array("NUMPY".utf8) + [1, 0] + Pickle.little(UInt16(text.utf8.count)) + Array(text.utf8) + bytes
  }

  public static func floats(_ shape: [Int], _ values: [Float]) -> [UInt8] {
    array("<f4", shape, values.flatMap { Pickle.little($0.bitPattern) })
  }

  public static func halves(_ shape: [Int], _ values: [Float]) -> [UInt8] {
    array("<f2", shape, values.flatMap { Pickle.little(Float16($0).bitPattern) })
  }

  public static func doubles(_ shape: [Int], _ values: [Float]) -> [UInt8] {
    array("<f8", shape, values.flatMap { Pickle.little(Double($0).bitPattern) })
  }

  /// Returns the file of strings in UTF-32, each as long as the longest.
  public static func text(_ strings: [String]) -> [UInt8] {
    let length = strings.map(\.unicodeScalars.count).max() ?? 0
    let scalars = strings.flatMap { text in
      text.unicodeScalars.map(\.value) + [UInt32](repeating: 0, count: length - text.unicodeScalars.count)
    }
    return array("<U\(length)", [strings.count], scalars.flatMap { Pickle.little($0) })
  }

  /// Returns the file of strings in UTF-8, which numpy calls bytes.
  public static func bytes(_ strings: [String]) -> [UInt8] {
    let length = strings.map(\.utf8.count).max() ?? 0
    let padded = strings.flatMap { Array($0.utf8) + [UInt8](repeating: 0, count: length - $0.utf8.count) }
    return array("|S\(length)", [strings.count], padded)
  }

  /// Returns the archive of these files; with `method` 8 its table says that they are compressed.
  public static func archive(_ arrays: [String: [UInt8]], method: UInt16 = 0) -> [UInt8] {
    TorchArchive.zip(
      arrays.sorted { $0.key < $1.key }.map { ("\($0.key).npy", $0.value) }, method: method, flags: 0)
  }
}
