/// The three codecs behind `cimage_probe` and `cimage_decode`, one file each.
#ifndef KINSHIP_CODECS_H
#define KINSHIP_CODECS_H

#include "CImage.h"

/// Writes a formatted message into `text` and returns `status`.
__attribute__((format(printf, 3, 4))) int32_t cimage_fail(int32_t status, char *text, const char *format, ...);

/// Each codec is one function: `pixels` NULL asks for the header only, which fills `info`; otherwise `info` holds the
/// size that the caller made room for (before it is divided by `shrink`), and a header that says something else is an
/// error.
int32_t cimage_jpeg(
    const uint8_t *bytes, size_t count, struct cimage_info *info, uint32_t shrink, uint8_t *pixels, char *text);
int32_t cimage_png(
    const uint8_t *bytes, size_t count, struct cimage_info *info, int32_t alpha, uint8_t *pixels, char *text);
int32_t cimage_webp(
    const uint8_t *bytes, size_t count, struct cimage_info *info, int32_t alpha, uint8_t *pixels, char *text);

#endif
