// The border to oneDNN 2: matrix products of 16-bit floats with 32-bit sums, and convolutions.
#ifndef KINSHIP_CONEDNN_H
#define KINSHIP_CONEDNN_H
#include <oneapi/dnnl/dnnl.h>

#if DNNL_VERSION_MAJOR != 2
#error "Kinship is written against oneDNN 2 (Debian 12: libdnnl-dev 2.6); descriptions of operations changed with 3"
#endif

#endif
