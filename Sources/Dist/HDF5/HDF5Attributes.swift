internal import CHDF5

/// The attributes of one object: strings (UTF-8), integers and doubles.
public struct HDF5Attributes: Sendable {
  let file: HDF5File
  let object: String

  /// Returns the attributes' names, in the order of their bytes.
  public func names() throws(HDF5Error) -> [String] {
    try file.withID(object: object) { (id, place) throws(HDF5Error) in
      let owner = try place.check(unsafe H5Oopen(id, object, kinship_h5_default()), "H5Oopen")
      defer { H5Oclose(owner) }
      var count: hsize_t = 0
      try place.check(unsafe kinship_h5_count_attributes(owner, &count), "H5Oget_info")
      return try unsafe place.names(count, "H5Aget_name_by_idx") { index, buffer, size in
        unsafe H5Aget_name_by_idx(owner, ".", H5_INDEX_NAME, H5_ITER_INC, index, buffer, size, kinship_h5_default())
      }
    }
  }

  /// Returns true if the object has an attribute of this name.
  public func contains(_ name: String) throws(HDF5Error) -> Bool {
    try file.withID(object: object) { (id, place) throws(HDF5Error) in
      try place.check(unsafe H5Aexists_by_name(id, object, name, kinship_h5_default()), "H5Aexists_by_name") > 0
    }
  }

  /// Adds a string. A string with a zero byte is refused, because it would end there.
  public func set(_ name: String, _ value: String) throws(HDF5Error) {
    try create(name) { (place) throws(HDF5Error) in
      guard !value.utf8.contains(0) else { throw place.refusal("write", "the text holds a zero byte") }
      return try place.textType()
    } write: { attribute, type in
      unsafe value.withCString { text in
        var text: UnsafePointer<CChar>? = unsafe text
        return unsafe H5Awrite(attribute, type, &text)
      }
    }
  }

  /// Adds a number.
  public func set<T: HDF5Element>(_ name: String, _ number: T) throws(HDF5Error) {
    try create(name, type: T.hdf5Type.make) { attribute, type in
      var number = number
      return unsafe H5Awrite(attribute, type, &number)
    }
  }

  /// Returns a string. Throws if the attribute is missing or a number.
  public func string(_ name: String) throws(HDF5Error) -> String {
    try open(name) { (attribute, type, place) throws(HDF5Error) in
      guard H5Tget_class(type) == H5T_STRING else { throw place.refusal("read", "expected a string, found a number") }
      let memory = try place.textType()
      defer { H5Tclose(memory) }
      var text: UnsafeMutablePointer<CChar>?
      try place.check(unsafe H5Aread(attribute, memory, &text), "H5Aread")
      guard let text = unsafe text else { return "" }
      defer { unsafe H5free_memory(text) }
      return unsafe String(cString: text)
    }
  }

  /// Returns an integer of any stored width. Throws if it does not fit `I`.
  public func integer<I: FixedWidthInteger>(_ name: String, as _: I.Type = Int.self) throws(HDF5Error) -> I {
    try open(name) { (attribute, type, place) throws(HDF5Error) in
      guard H5Tget_class(type) == H5T_INTEGER else { throw place.refusal("read", "expected an integer") }
      let isUnsigned = H5Tget_sign(type) == H5T_SGN_NONE
      var bits: UInt64 = 0
      let wide = isUnsigned ? kinship_h5_u64() : kinship_h5_i64()
      try place.check(unsafe H5Aread(attribute, wide, &bits), "H5Aread")
      guard let value = isUnsigned ? I(exactly: bits) : I(exactly: Int64(bitPattern: bits)) else {
        throw place.refusal("read", "the number does not fit \(I.self)")
      }
      return value
    }
  }

  /// Returns a floating-point number of any stored width. Throws if the attribute is missing or no such number.
  public func double(_ name: String) throws(HDF5Error) -> Double {
    try open(name) { (attribute, type, place) throws(HDF5Error) in
      guard H5Tget_class(type) == H5T_FLOAT else { throw place.refusal("read", "expected a floating-point number") }
      var value = 0.0
      try place.check(unsafe H5Aread(attribute, kinship_h5_f64(), &value), "H5Aread")
      return value
    }
  }

  private func create(
    _ name: String, type: (HDF5Place) throws(HDF5Error) -> hid_t, write: (hid_t, hid_t) -> herr_t
  ) throws(HDF5Error) {
    try file.withID(object: "attribute \(name) of \(object)") { (id, place) throws(HDF5Error) in
      let type = try type(place)
      defer { H5Tclose(type) }
      let space = try place.check(H5Screate(H5S_SCALAR), "H5Screate")
      defer { H5Sclose(space) }
      let none = kinship_h5_default()
      let attribute = unsafe H5Acreate_by_name(id, object, name, type, space, none, none, none)
      try place.check(attribute, "H5Acreate_by_name")
      defer { H5Aclose(attribute) }
      try place.check(write(attribute, type), "H5Awrite")
    }
  }

  private func open<R>(
    _ name: String, _ body: (hid_t, hid_t, HDF5Place) throws(HDF5Error) -> R
  ) throws(HDF5Error) -> R {
    try file.withID(object: "attribute \(name) of \(object)") { (id, place) throws(HDF5Error) in
      let none = kinship_h5_default()
      let attribute = try place.check(unsafe H5Aopen_by_name(id, object, name, none, none), "H5Aopen_by_name")
      defer { H5Aclose(attribute) }
      let space = try place.check(H5Aget_space(attribute), "H5Aget_space")
      defer { H5Sclose(space) }
      guard H5Sget_simple_extent_npoints(space) == 1 else {
        throw place.refusal("read", "expected one value, found an array")
      }
      let type = try place.check(H5Aget_type(attribute), "H5Aget_type")
      defer { H5Tclose(type) }
      return try body(attribute, type, place)
    }
  }
}

extension HDF5Place {
  /// Creates the type of a UTF-8 string of variable length, which h5py shows as `str`.
  fileprivate func textType() throws(HDF5Error) -> hid_t {
    try copyType(kinship_h5_c_string()) { type throws(HDF5Error) in
      try check(H5Tset_size(type, kinship_h5_variable_length()), "H5Tset_size")
      try check(H5Tset_cset(type, H5T_CSET_UTF8), "H5Tset_cset")
    }
  }
}
