internal import CHDF5

/// Where consecutive rows of a virtual data set come from: a data set of the same name in another file.
struct HDF5Source {
  /// Relative to the file that names it.
  let file: String
  let rows: Range<Int>
}

extension HDF5File {
  /// Makes a data set that shows the numbers of others. Rows whose file is missing read as NaN.
  func createVirtualDataset(_ name: String, _ type: HDF5Type, shape: [Int], sources: [HDF5Source]) throws(HDF5Error) {
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
        let sizes = [source.rows.count] + shape.dropFirst()
        let own = try place.space(sizes)
        defer { H5Sclose(own) }
        let start = [hsize_t(source.rows.lowerBound)] + shape.dropFirst().map { _ in 0 }
        try place.check(
          unsafe H5Sselect_hyperslab(whole, H5S_SELECT_SET, start, nil, sizes.map { hsize_t($0) }, nil),
          "H5Sselect_hyperslab")
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
