internal import CHDF5
public import Tensor

/// A data set: a contiguous, row-major array of numbers in a file. Every operation opens and closes it.
public struct HDF5Dataset: Sendable {
  let file: HDF5File
  public let name: String
  public let type: HDF5Type
  /// The sizes, from the outermost dimension; empty for a scalar.
  public let shape: [Int]
  /// The offset of the numbers in the file, for readers past the library; nil if there are none.
  public let fileOffset: Int?
  /// The number of elements; 1 for a scalar.
  public var count: Int { shape.reduce(1, *) }
}

extension HDF5File {
  /// Creates a data set, and the groups on its path. Its numbers are undefined until they are written.
  public func createDataset(_ name: String, _ type: HDF5Type, shape: [Int]) throws(HDF5Error) -> HDF5Dataset {
    let offset = try withID(object: name) { (id, place) throws(HDF5Error) in
      guard shape.allSatisfy({ $0 >= 0 }) else { throw place.refusal("create", "\(shape) has a negative size") }
      let none = kinship_h5_default()
      let link = try place.check(H5Pcreate(kinship_h5_link_create()), "H5Pcreate")
      defer { H5Pclose(link) }
      try place.check(H5Pset_create_intermediate_group(link, 1), "H5Pset_create_intermediate_group")
      try place.check(H5Pset_char_encoding(link, H5T_CSET_UTF8), "H5Pset_char_encoding")
      let creation = try place.check(H5Pcreate(kinship_h5_dataset_create()), "H5Pcreate")
      defer { H5Pclose(creation) }
      try place.check(H5Pset_obj_track_times(creation, false), "H5Pset_obj_track_times")
      try place.check(H5Pset_layout(creation, H5D_CONTIGUOUS), "H5Pset_layout")
      try place.check(H5Pset_alloc_time(creation, H5D_ALLOC_TIME_EARLY), "H5Pset_alloc_time")
      try place.check(H5Pset_fill_time(creation, H5D_FILL_TIME_NEVER), "H5Pset_fill_time")
      let space = try place.space(shape)
      defer { H5Sclose(space) }
      let type = try type.make(place)
      defer { H5Tclose(type) }
      let dataset = try place.check(unsafe H5Dcreate2(id, name, type, space, link, creation, none), "H5Dcreate2")
      defer { H5Dclose(dataset) }
      return place.offset(dataset)
    }
    return HDF5Dataset(file: self, name: name, type: type, shape: shape, fileOffset: offset)
  }

  /// Opens a data set. Throws unless it has a `HDF5Type`; opening the file has found it contiguous and whole.
  public func dataset(_ name: String) throws(HDF5Error) -> HDF5Dataset {
    try withID(object: name) { (id, place) throws(HDF5Error) in
      let dataset = try place.check(unsafe H5Dopen2(id, name, kinship_h5_default()), "H5Dopen2")
      defer { H5Dclose(dataset) }
      let stored = try place.check(H5Dget_type(dataset), "H5Dget_type")
      defer { H5Tclose(stored) }
      guard let type = try HDF5Type.named(stored, place) else {
        let known = HDF5Type.allCases.map(\.rawValue).joined(separator: ", ")
        throw place.refusal("open", "its element type is none of \(known), little-endian")
      }
      let shape = try place.shape(dataset)
      return HDF5Dataset(file: self, name: name, type: type, shape: shape, fileOffset: place.offset(dataset))
    }
  }
}

extension HDF5Place {
  /// Creates a data space of this shape, which the caller must close.
  func space(_ shape: [Int]) throws(HDF5Error) -> hid_t {
    guard !shape.isEmpty else { return try check(H5Screate(H5S_SCALAR), "H5Screate") }
    let sizes = shape.map { hsize_t($0) }
    return try check(unsafe H5Screate_simple(Int32(sizes.count), sizes, nil), "H5Screate_simple")
  }

  /// Selects the rows `rows` of a data space whose shape is `shape`. Returns the selection's shape.
  fileprivate func select(_ rows: Range<Int>, of shape: [Int], in space: hid_t) throws(HDF5Error) -> [Int] {
    let sizes = [rows.count] + shape.dropFirst()
    let start = [hsize_t(rows.lowerBound)] + shape.dropFirst().map { _ in 0 }
    let extent = sizes.map { hsize_t($0) }
    try check(unsafe H5Sselect_hyperslab(space, H5S_SELECT_SET, start, nil, extent, nil), "H5Sselect_hyperslab")
    return sizes
  }

  fileprivate func shape(_ dataset: hid_t) throws(HDF5Error) -> [Int] {
    let space = try check(H5Dget_space(dataset), "H5Dget_space")
    defer { H5Sclose(space) }
    let rank = try check(H5Sget_simple_extent_ndims(space), "H5Sget_simple_extent_ndims")
    var sizes = [hsize_t](repeating: 0, count: Int(rank))
    try check(unsafe H5Sget_simple_extent_dims(space, &sizes, nil), "H5Sget_simple_extent_dims")
    let shape = sizes.compactMap { Int(exactly: $0) }
    guard shape.count == sizes.count else { throw refusal("open", "its shape \(sizes) is too large") }
    return shape
  }

  /// Returns the offset of a data set's numbers in the file; nil if they have no storage.
  fileprivate func offset(_ dataset: hid_t) -> Int? {
    let address = H5Dget_offset(dataset)
    return address == kinship_h5_no_address() ? nil : Int(exactly: address)
  }
}

extension HDF5Dataset {
  /// Writes the rows `rows`, or all if nil, row-major.
  public func write<T: HDF5Element>(_ values: [T], rows: Range<Int>? = nil) throws(HDF5Error) {
    try write(values.span, rows: rows)
  }

  /// Does the same with the numbers of a span.
  public func write<T: HDF5Element>(_ values: Span<T>, rows: Range<Int>? = nil) throws(HDF5Error) {
    let result: Result<Void, HDF5Error> = unsafe values.withUnsafeBufferPointer { buffer in
      do throws(HDF5Error) {
        return .success(try unsafe send(UnsafeRawBufferPointer(buffer), T.hdf5Type, rows))
      } catch { return .failure(error) }
    }
    try result.get()
  }

  /// Writes a tensor's numbers into the rows `rows`, or into all if nil. Only the counts must agree.
  public func write<S: Scalar & HDF5Element>(_ tensor: Tensor<S>, rows: Range<Int>? = nil) throws(HDF5Error) {
    try unsafe tensor.withUnsafeMutableBuffer { (buffer) throws(HDF5Error) in
      try unsafe send(UnsafeRawBufferPointer(buffer), S.hdf5Type, rows)
    }
  }

  /// Reads the rows `rows`, or all if nil. Floating-point numbers may be read as wider ones.
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

  /// Reads the rows `rows`, or all if nil, into a tensor. Only the counts must agree.
  public func read<S: Scalar & HDF5Element>(into tensor: Tensor<S>, rows: Range<Int>? = nil) throws(HDF5Error) {
    try unsafe tensor.withUnsafeMutableBuffer { (buffer) throws(HDF5Error) in
      try unsafe receive(UnsafeMutableRawBufferPointer(buffer), S.hdf5Type, rows)
    }
  }

  private func elements(_ rows: Range<Int>?, _ call: String) throws(HDF5Error) -> Int {
    guard let rows else { return count }
    guard let outer = shape.first, rows.lowerBound >= 0, rows.upperBound <= outer else {
      throw refusal(call, "rows \(rows) of a data set of shape \(shape)")
    }
    // The product of the other sizes need not be a number where there are no rows.
    return rows.isEmpty ? 0 : rows.count * shape.dropFirst().reduce(1, *)
  }

  private func send(_ buffer: UnsafeRawBufferPointer, _ memory: HDF5Type, _ rows: Range<Int>?) throws(HDF5Error) {
    guard memory == type else {
      throw refusal("write", "the data set holds \(type.rawValue), the values are \(memory.rawValue)")
    }
    try transfer(buffer.count, memory, rows, "write", "H5Dwrite") { dataset, type, inMemory, inFile in
      unsafe H5Dwrite(dataset, type, inMemory, inFile, kinship_h5_default(), buffer.baseAddress)
    }
  }

  private func receive(
    _ buffer: UnsafeMutableRawBufferPointer, _ memory: HDF5Type, _ rows: Range<Int>?
  ) throws(HDF5Error) {
    guard type.widens(to: memory) else { throw refusal("read", "expected \(memory.rawValue), found \(type.rawValue)") }
    try transfer(buffer.count, memory, rows, "read", "H5Dread") { dataset, type, inMemory, inFile in
      unsafe H5Dread(dataset, type, inMemory, inFile, kinship_h5_default(), buffer.baseAddress)
    }
  }

  /// Checks the caller's number of bytes, and runs `body` on the open data set and the spaces of the rows.
  private func transfer(
    _ bytes: Int, _ memory: HDF5Type, _ rows: Range<Int>?, _ verb: String, _ call: String,
    _ body: (_ dataset: hid_t, _ type: hid_t, _ inMemory: hid_t, _ inFile: hid_t) -> herr_t
  ) throws(HDF5Error) {
    let expected = try elements(rows, verb)
    guard bytes == expected * memory.size else {
      let part = rows.map { "rows \($0)" } ?? "all"
      throw refusal(verb, "\(part) of shape \(shape) is \(expected) elements, the caller has \(bytes / memory.size)")
    }
    guard expected > 0 else { return }
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
      let inMemory = try place.space(try place.select(rows, of: shape, in: inFile))
      defer { H5Sclose(inMemory) }
      try place.check(body(dataset, type, inMemory, inFile), call)
    }
  }

  private func refusal(_ call: String, _ cause: String) -> HDF5Error {
    HDF5Error(call: call, path: file.path, object: name, cause: cause)
  }
}

extension HDF5File {
  /// Creates a data set that shows the same data set's rows in other files by relative paths; NaN if a file is missing.
  func createVirtualDataset(
    _ name: String, _ type: HDF5Type, shape: [Int], sources: [(file: String, rows: Range<Int>)]
  ) throws(HDF5Error) {
    try withID(object: name) { (id, place) throws(HDF5Error) in
      let none = kinship_h5_default()
      let creation = try place.check(H5Pcreate(kinship_h5_dataset_create()), "H5Pcreate")
      defer { H5Pclose(creation) }
      try place.check(H5Pset_obj_track_times(creation, false), "H5Pset_obj_track_times")
      var missing = Float.nan
      try place.check(unsafe H5Pset_fill_value(creation, kinship_h5_f32(), &missing), "H5Pset_fill_value")
      let whole = try place.space(shape)
      defer { H5Sclose(whole) }
      for source in sources where !source.rows.isEmpty {
        let own = try place.space(try place.select(source.rows, of: shape, in: whole))
        defer { H5Sclose(own) }
        try place.check(unsafe H5Pset_virtual(creation, whole, source.file, name, own), "H5Pset_virtual")
      }
      try place.check(H5Sselect_all(whole), "H5Sselect_all")
      let type = try type.make(place)
      defer { H5Tclose(type) }
      let dataset = try place.check(unsafe H5Dcreate2(id, name, type, whole, none, creation, none), "H5Dcreate2")
      try place.check(H5Dclose(dataset), "H5Dclose")
    }
  }
}

// MARK: Strings

extension HDF5File {
  /// Returns true if a data set holds strings, as h5py stores keys, and not numbers.
  func holdsStrings(_ name: String) throws(HDF5Error) -> Bool {
    try withStored(name) { (_, type, _) throws(HDF5Error) in H5Tget_class(type) == H5T_STRING }
  }

  /// Reads a list of strings of fixed or variable length, whose places opening the file has checked.
  func strings(_ name: String) throws(HDF5Error) -> PackedStrings {
    try withStored(name) { (dataset, type, place) throws(HDF5Error) in
      let isVariable = H5Tis_variable_str(type) > 0
      let size = H5Tget_size(type)
      let shape = try place.shape(dataset)
      guard shape.count == 1 else {
        throw place.refusal("read", "its shape is \(shape), expected one dimension", status: .badData)
      }
      let (none, all, count) = (kinship_h5_default(), kinship_h5_all(), shape[0])
      var (bytes, offsets): ([UInt8], [UInt64]) = ([], [0])
      if isVariable, count > 0 {
        var addresses = [UInt](repeating: 0, count: count)
        try place.check(unsafe H5Dread(dataset, type, all, all, none, &addresses), "H5Dread")
        for address in addresses {
          if let text = unsafe UnsafeMutablePointer<CChar>(bitPattern: address) {
            unsafe bytes.append(contentsOf: String(cString: text).utf8)
            unsafe H5free_memory(text)
          }
          offsets.append(UInt64(bytes.count))
        }
      } else if count > 0 {
        var fixed = [UInt8](repeating: 0, count: count * size)
        try place.check(unsafe H5Dread(dataset, type, all, all, none, &fixed), "H5Dread")
        for row in 0..<count {
          bytes.append(contentsOf: fixed[row * size..<(row + 1) * size].prefix { $0 != 0 })
          offsets.append(UInt64(bytes.count))
        }
      }
      guard let packed = PackedStrings(bytes: bytes, offsets: offsets) else {
        throw place.refusal("read", "its strings take more than 4 GiB")
      }
      return packed
    }
  }

  /// Runs `body` with an open data set and its stored type. Throws for a group of this name.
  private func withStored<R>(
    _ name: String, _ body: (_ dataset: hid_t, _ type: hid_t, HDF5Place) throws(HDF5Error) -> R
  ) throws(HDF5Error) -> R {
    try withID(object: name) { (id, place) throws(HDF5Error) in
      let dataset = try place.check(unsafe H5Oopen(id, name, kinship_h5_default()), "H5Oopen")
      defer { H5Oclose(dataset) }
      guard H5Iget_type(dataset) == H5I_DATASET else {
        throw place.refusal("open", "it is a group, expected a data set", status: .badData)
      }
      let type = try place.check(H5Dget_type(dataset), "H5Dget_type")
      defer { H5Tclose(type) }
      return try body(dataset, type, place)
    }
  }
}
