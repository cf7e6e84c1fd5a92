internal import CHDF5

/// A data set: an array of numbers in a file, contiguous and row-major.
///
/// A value that names the data set; every operation opens and closes it, so nothing is left to be closed.
public struct HDF5Dataset: Sendable {
  let file: HDF5File
  public let name: String
  public let type: HDF5Type
  /// The sizes, outermost first; empty for a scalar.
  public let shape: [Int]
  /// Where in the file the numbers begin; nil where nothing is stored (no elements, or so few that they sit in the
  /// header). Together with the type's size it lets a reader go past the library and its lock.
  public let fileOffset: Int?

  /// How many elements there are; 1 for a scalar.
  public var count: Int { shape.reduce(1, *) }
}

extension HDF5File {
  /// Makes a data set, and the groups on its path. Its numbers are undefined until they are written.
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

  /// Finds a data set. Refused: other types than `HDF5Type`, chunked, compressed, virtual or external storage, and
  /// numbers that lie beyond the end of the file.
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
      let offset = try place.storage(dataset, file: id, shape: shape, elementSize: type.size)
      return HDF5Dataset(file: self, name: name, type: type, shape: shape, fileOffset: offset)
    }
  }
}

extension HDF5Place {
  func space(_ shape: [Int]) throws(HDF5Error) -> hid_t {
    guard !shape.isEmpty else { return try check(H5Screate(H5S_SCALAR), "H5Screate") }
    let sizes = shape.map { hsize_t($0) }
    return try check(unsafe H5Screate_simple(Int32(sizes.count), sizes, nil), "H5Screate_simple")
  }

  fileprivate func shape(_ dataset: hid_t) throws(HDF5Error) -> [Int] {
    let space = try check(H5Dget_space(dataset), "H5Dget_space")
    defer { H5Sclose(space) }
    let rank = try check(H5Sget_simple_extent_ndims(space), "H5Sget_simple_extent_ndims")
    var sizes = [hsize_t](repeating: 0, count: Int(rank))
    try check(unsafe H5Sget_simple_extent_dims(space, &sizes, nil), "H5Sget_simple_extent_dims")
    var shape: [Int] = []
    for size in sizes {
      guard let size = Int(exactly: size) else { throw refusal("open", "its shape \(sizes) is absurd") }
      shape.append(size)
    }
    return shape
  }

  /// Where the numbers begin, after a proof that all of them are in the file: nobody allocates what a header claims.
  fileprivate func storage(
    _ dataset: hid_t, file: hid_t, shape: [Int], elementSize: Int
  ) throws(HDF5Error) -> Int? {
    var bytes = elementSize
    for size in shape {
      let (product, overflow) = bytes.multipliedReportingOverflow(by: size)
      guard !overflow else { throw refusal("open", "its shape \(shape) is absurd") }
      bytes = product
    }
    let creation = try check(H5Dget_create_plist(dataset), "H5Dget_create_plist")
    defer { H5Pclose(creation) }
    let layout = H5Pget_layout(creation)
    // Compact data sit in the object's header, of at most 64 KiB.
    if layout == H5D_COMPACT, bytes <= 65_536 { return nil }
    guard layout == H5D_CONTIGUOUS, H5Pget_external_count(creation) == 0 else {
      throw refusal("open", "it is chunked, compressed, virtual or external; write it contiguous")
    }
    guard bytes > 0 else { return nil }
    var size: hsize_t = 0
    try check(unsafe H5Fget_filesize(file, &size), "H5Fget_filesize")
    guard let offset = offset(dataset) else { throw refusal("open", "its numbers were never written") }
    guard let end = Int(exactly: size), offset <= end, bytes <= end - offset else {
      throw refusal("open", "its \(bytes) bytes at \(offset) go beyond the file's end at \(size)")
    }
    return offset
  }

  fileprivate func offset(_ dataset: hid_t) -> Int? {
    let address = H5Dget_offset(dataset)
    return address == kinship_h5_no_address() ? nil : Int(exactly: address)
  }
}
