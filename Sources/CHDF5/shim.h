// The border to HDF5: its header, and identifiers that are macros Swift cannot import.
#ifndef KINSHIP_CHDF5_H
#define KINSHIP_CHDF5_H
#include <hdf5.h>

// Type and property identifiers are macros that initialize the library first.
static inline hid_t kinship_h5_u8(void) { return H5T_STD_U8LE; }
static inline hid_t kinship_h5_i32(void) { return H5T_STD_I32LE; }
static inline hid_t kinship_h5_i64(void) { return H5T_STD_I64LE; }
static inline hid_t kinship_h5_u64(void) { return H5T_STD_U64LE; }
static inline hid_t kinship_h5_f32(void) { return H5T_IEEE_F32LE; }
static inline hid_t kinship_h5_f64(void) { return H5T_IEEE_F64LE; }
static inline hid_t kinship_h5_c_string(void) { return H5T_C_S1; }

static inline hid_t kinship_h5_file_access(void) { return H5P_FILE_ACCESS; }
static inline hid_t kinship_h5_file_create(void) { return H5P_FILE_CREATE; }
static inline hid_t kinship_h5_dataset_create(void) { return H5P_DATASET_CREATE; }
static inline hid_t kinship_h5_link_create(void) { return H5P_LINK_CREATE; }

static inline hid_t kinship_h5_default(void) { return H5P_DEFAULT; }
static inline hid_t kinship_h5_all(void) { return H5S_ALL; }
static inline unsigned kinship_h5_read_only(void) { return H5F_ACC_RDONLY; }
static inline unsigned kinship_h5_exclusive(void) { return H5F_ACC_EXCL; }
static inline haddr_t kinship_h5_no_address(void) { return HADDR_UNDEF; }
static inline size_t kinship_h5_variable_length(void) { return H5T_VARIABLE; }

// From 1.12 on H5O_info_t is another type than H5Oget_info2 fills.
static inline herr_t kinship_h5_count_attributes(hid_t object, hsize_t *count) {
#if H5_VERSION_GE(1, 12, 0)
  H5O_info2_t info;
  herr_t status = H5Oget_info3(object, &info, H5O_INFO_NUM_ATTRS);
#else
  H5O_info_t info;
  herr_t status = H5Oget_info2(object, &info, H5O_INFO_NUM_ATTRS);
#endif
  *count = status < 0 ? 0 : info.num_attrs;
  return status;
}

// Releases before 1.10.7, and 1.12.0, have no such property: there only the environment variable helps.
static inline herr_t kinship_h5_disable_locking(hid_t access) {
#if H5_VERSION_GE(1, 12, 1) || (H5_VERSION_GE(1, 10, 7) && !H5_VERSION_GE(1, 12, 0))
  return H5Pset_file_locking(access, 0, 1);
#else
  return 0;
#endif
}

#endif
