internal import CHDF5
public import Tensor

/// Reading and writing: whole data sets, or consecutive rows (entries of the outermost dimension).
extension HDF5Dataset {
  /// Writes the rows `rows`, or all, row-major.
  public func write<T: HDF5Element>(_ values: [T], rows: Range<Int>? = nil) throws(HDF5Error) {
    try write(values.span, rows: rows)
  }

  /// Writes the rows `rows`, or all, row-major.
  public func write<T: HDF5Element>(_ values: Span<T>, rows: Range<Int>? = nil) throws(HDF5Error) {
    let result: Result<Void, HDF5Error> = unsafe values.withUnsafeBufferPointer { buffer in
      do throws(HDF5Error) {
        return .success(try unsafe send(UnsafeRawBufferPointer(buffer), T.hdf5Type, rows))
      } catch { return .failure(error) }
    }
    try result.get()
  }

  /// Writes a tensor's numbers into the rows `rows`, or into all. Only the counts must agree.
  public func write<S: Scalar & HDF5Element>(_ tensor: Tensor<S>, rows: Range<Int>? = nil) throws(HDF5Error) {
    try unsafe tensor.withUnsafeMutableBuffer { (buffer) throws(HDF5Error) in
      try unsafe send(UnsafeRawBufferPointer(buffer), S.hdf5Type, rows)
    }
  }

  /// Reads the rows `rows`, or all. Floating-point numbers may be read as wider ones.
  public func read<T: HDF5Element>(_: T.Type, rows: Range<Int>? = nil) throws(HDF5Error) -> [T] {
    let count = try elements(rows, "read")
    var failure: HDF5Error?
    let values = unsafe [T](unsafeUninitializedCapacity: count) { buffer, initialized in
      do throws(HDF5Error) {
        try unsafe receive(UnsafeMutableRawBufferPointer(buffer), T.hdf5Type, rows)
        initialized = count
      } catch { failure = error }
    }
    if let failure { throw failure }
    return values
  }

  /// Reads the rows `rows`, or all, into a tensor. Only the counts must agree.
  public func read<S: Scalar & HDF5Element>(into tensor: Tensor<S>, rows: Range<Int>? = nil) throws(HDF5Error) {
    try unsafe tensor.withUnsafeMutableBuffer { (buffer) throws(HDF5Error) in
      try unsafe receive(UnsafeMutableRawBufferPointer(buffer), S.hdf5Type, rows)
    }
  }

  /// How many elements the rows hold.
  private func elements(_ rows: Range<Int>?, _ call: String) throws(HDF5Error) -> Int {
    guard let rows else { return count }
    guard let outer = shape.first, rows.lowerBound >= 0, rows.upperBound <= outer else {
      throw refusal(call, "rows \(rows) of a data set of shape \(shape)")
    }
    return rows.count * shape.dropFirst().reduce(1, *)
  }

  private func send(
    _ buffer: UnsafeRawBufferPointer, _ memory: HDF5Type, _ rows: Range<Int>?
  ) throws(HDF5Error) {
    guard memory == type else {
      throw refusal("write", "the data set holds \(type.rawValue), the values are \(memory.rawValue)")
    }
    try match(buffer.count, memory, rows, "write")
    try transfer(memory, rows, "H5Dwrite") { dataset, type, inMemory, inFile in
      unsafe H5Dwrite(dataset, type, inMemory, inFile, kinship_h5_default(), buffer.baseAddress)
    }
  }

  private func receive(
    _ buffer: UnsafeMutableRawBufferPointer, _ memory: HDF5Type, _ rows: Range<Int>?
  ) throws(HDF5Error) {
    guard type.widens(to: memory) else {
      throw refusal("read", "expected \(memory.rawValue), found \(type.rawValue)")
    }
    try match(buffer.count, memory, rows, "read")
    try transfer(memory, rows, "H5Dread") { dataset, type, inMemory, inFile in
      unsafe H5Dread(dataset, type, inMemory, inFile, kinship_h5_default(), buffer.baseAddress)
    }
  }

  private func match(_ bytes: Int, _ memory: HDF5Type, _ rows: Range<Int>?, _ call: String) throws(HDF5Error) {
    let expected = try elements(rows, call)
    guard bytes == expected * memory.size else {
      let part = rows.map { "rows \($0)" } ?? "all"
      throw refusal(call, "\(part) of shape \(shape) is \(expected) elements, the caller has \(bytes / memory.size)")
    }
  }

  private func transfer(
    _ memory: HDF5Type, _ rows: Range<Int>?, _ call: String, _ body: (hid_t, hid_t, hid_t, hid_t) -> herr_t
  ) throws(HDF5Error) {
    guard try elements(rows, call) > 0 else { return }
    defer { Progress.made() }
    try file.withID(object: name) { (id, place) throws(HDF5Error) in
      let dataset = try place.check(unsafe H5Dopen2(id, name, kinship_h5_default()), "H5Dopen2")
      defer { H5Dclose(dataset) }
      let type = try memory.make(place)
      defer { H5Tclose(type) }
      guard let rows else {
        try place.check(body(dataset, type, kinship_h5_all(), kinship_h5_all()), call)
        return
      }
      let inFile = try place.check(H5Dget_space(dataset), "H5Dget_space")
      defer { H5Sclose(inFile) }
      let sizes = [rows.count] + shape.dropFirst()
      let start = [hsize_t(rows.lowerBound)] + shape.dropFirst().map { _ in 0 }
      let extent = sizes.map { hsize_t($0) }
      try place.check(
        unsafe H5Sselect_hyperslab(inFile, H5S_SELECT_SET, start, nil, extent, nil), "H5Sselect_hyperslab")
      let inMemory = try place.space(sizes)
      defer { H5Sclose(inMemory) }
      try place.check(body(dataset, type, inMemory, inFile), call)
    }
  }

  private func refusal(_ call: String, _ cause: String) -> HDF5Error {
    HDF5Error(call: call, path: file.path, object: name, cause: cause)
  }
}
