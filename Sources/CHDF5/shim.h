// The border to HDF5: its header, and identifiers that are macros Swift cannot import.
#ifndef KINSHIP_CHDF5_H
#define KINSHIP_CHDF5_H
#include <hdf5.h>

static inline hid_t kinship_h5_native_float(void) { return H5T_NATIVE_FLOAT; }

#endif
