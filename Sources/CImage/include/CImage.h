/// Pictures from bytes: JPEG (libjpeg-turbo), PNG (libpng) and WebP (libwebp), to 8-bit RGB or RGBA; and RGB to such files.
///
/// A C target and not a header, because libjpeg and libpng report errors by longjmp, which must not cross Swift
/// frames: every setjmp and every longjmp stays inside one call of this file. Nothing is shared between calls, so
/// any number of threads may call at once. No bytes, however damaged, do more than make a call fail.
#ifndef KINSHIP_CIMAGE_H
#define KINSHIP_CIMAGE_H

#include <stddef.h>
#include <stdint.h>

enum cimage_status {
  CIMAGE_OK = 0,
  /// The bytes begin like none of the three formats.
  CIMAGE_UNKNOWN_FORMAT = 1,
  /// The library of the format refused the bytes, or they end early.
  CIMAGE_DAMAGED = 2,
  /// A sound file of a kind that is not read (an animation, two colour components, …).
  CIMAGE_UNSUPPORTED = 3,
  /// A buffer or a size of the caller does not fit the image.
  CIMAGE_MISUSE = 4,
};

enum cimage_format { CIMAGE_JPEG = 1, CIMAGE_PNG = 2, CIMAGE_WEBP = 3 };

enum { CIMAGE_TEXT_CAPACITY = 256 };

/// What the header of an image says.
struct cimage_info {
  int32_t format;
  uint32_t width;
  uint32_t height;
  /// Colour components as stored, alpha not counted: 1 gray or palette index, 3 colour, 4 CMYK.
  int32_t channels;
  /// 1 if pixels may be transparent: an alpha channel, or a transparent colour or palette entry.
  int32_t has_alpha;
};

/// Reads the header and decodes no pixels. `text` (CIMAGE_TEXT_CAPACITY bytes) receives what is wrong, if anything.
int32_t cimage_probe(const uint8_t *bytes, size_t count, struct cimage_info *info, char *text);

/// Decodes into `pixels`, row-major and without gaps: RGBA if `alpha` is not 0, else RGB with alpha left out (not
/// blended). `info` is what `cimage_probe` said of the same bytes, and `capacity` is at least width · height · 4 or 3.
/// Grey is repeated, 16 bits keep their upper 8, CMYK is taken as Adobe writes it (inverted).
/// `shrink` is 1, or of a JPEG 2, 4 or 8: width and height are then divided by it and rounded up, and pixel (x, y) is
/// made of the lowest frequencies of the pixels from (x, y) · shrink to (x + 1, y + 1) · shrink.
/// On failure the contents of `pixels` are unspecified and `text` says why.
int32_t cimage_decode(
    const uint8_t *bytes, size_t count, const struct cimage_info *info, int32_t alpha, uint32_t shrink,
    uint8_t *pixels, size_t capacity, char *text);

/// Writes a file of `format` from RGB pixels, row-major and without gaps. JPEG and WebP lose what `quality`, 1 … 100, lets
/// them. `bytes` becomes the caller's, to be given to `free`; on failure it is left alone and `text` says why.
int32_t cimage_encode(
    int32_t format, const uint8_t *rgb, uint32_t width, uint32_t height, int32_t quality, uint8_t **bytes,
    size_t *count, char *text);

#endif
