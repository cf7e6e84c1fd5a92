#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "Codecs.h"

int32_t cimage_fail(int32_t status, char *text, const char *format, ...) {
  va_list values;
  va_start(values, format);
  vsnprintf(text, CIMAGE_TEXT_CAPACITY, format, values);
  va_end(values);
  return status;
}

/// The format that the first bytes announce, or 0.
static int32_t announced(const uint8_t *bytes, size_t count) {
  if (count >= 3 && memcmp(bytes, "\xFF\xD8\xFF", 3) == 0) return CIMAGE_JPEG;
  if (count >= 8 && memcmp(bytes, "\x89PNG\r\n\x1A\n", 8) == 0) return CIMAGE_PNG;
  if (count >= 12 && memcmp(bytes, "RIFF", 4) == 0 && memcmp(bytes + 8, "WEBP", 4) == 0) return CIMAGE_WEBP;
  return 0;
}

static int32_t run(
    const uint8_t *bytes, size_t count, struct cimage_info *info, int32_t alpha, uint32_t shrink, uint8_t *pixels,
    char *text) {
  switch (info->format) {
    case CIMAGE_JPEG: return cimage_jpeg(bytes, count, info, shrink, pixels, text);
    case CIMAGE_PNG: return cimage_png(bytes, count, info, alpha, pixels, text);
    default: return cimage_webp(bytes, count, info, alpha, pixels, text);
  }
}

int32_t cimage_probe(const uint8_t *bytes, size_t count, struct cimage_info *info, char *text) {
  memset(info, 0, sizeof *info);
  text[0] = 0;
  info->format = announced(bytes, count);
  if (info->format == 0) return cimage_fail(CIMAGE_UNKNOWN_FORMAT, text, "not a JPEG, PNG or WebP file");
  return run(bytes, count, info, 0, 1, NULL, text);
}

int32_t cimage_decode(
    const uint8_t *bytes, size_t count, const struct cimage_info *info, int32_t alpha, uint32_t shrink,
    uint8_t *pixels, size_t capacity, char *text) {
  text[0] = 0;
  if (announced(bytes, count) != info->format || info->format == 0 || pixels == NULL)
    return cimage_fail(CIMAGE_MISUSE, text, "the bytes are not those that were probed");
  if (alpha && info->format == CIMAGE_JPEG) return cimage_fail(CIMAGE_MISUSE, text, "JPEG has no alpha");
  if (shrink != 1 && (info->format != CIMAGE_JPEG || (shrink != 2 && shrink != 4 && shrink != 8)))
    return cimage_fail(CIMAGE_MISUSE, text, "no image of this format is shrunk by %u", shrink);
  // 2^32 · 2^32 · 4 does not fit: divide instead.
  size_t row = ((size_t)info->width + shrink - 1) / shrink * (alpha ? 4 : 3);
  size_t rows = ((size_t)info->height + shrink - 1) / shrink;
  if (row == 0 || rows == 0 || capacity / row < rows)
    return cimage_fail(
        CIMAGE_MISUSE, text, "%zu bytes of room for %u x %u pixels", capacity, info->width, info->height);
  struct cimage_info expected = *info;
  return run(bytes, count, &expected, alpha, shrink, pixels, text);
}
