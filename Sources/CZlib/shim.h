// The border to zlib: vocabulary files come plain or compressed.
#ifndef KINSHIP_CZLIB_H
#define KINSHIP_CZLIB_H
#include <zlib.h>
#endif
