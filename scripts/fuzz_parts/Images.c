/// The function that libFuzzer calls with the bytes of images. It calls all of CImage that reads. Beside what the
/// sanitizers find, a decoder that reports success must have written every pixel, and the same ones each time.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "CImage.h"

enum { MAX_PIXELS = 1 << 20 };

static uint8_t *decoded(
    const uint8_t *bytes, size_t count, const struct cimage_info *info, int32_t alpha, uint32_t shrink, size_t capacity,
    int fill, int32_t *status) {
  char text[CIMAGE_TEXT_CAPACITY] = "";
  uint8_t *pixels = malloc(capacity);
  if (pixels == NULL) abort();
  memset(pixels, fill, capacity);
  *status = cimage_decode(bytes, count, info, alpha, shrink, pixels, capacity, text);
  // A failure has words that end, and is not the caller's.
  if (memchr(text, 0, sizeof text) == NULL || *status == CIMAGE_MISUSE) abort();
  if (*status != CIMAGE_OK && text[0] == 0) abort();
  return pixels;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count) {
  struct cimage_info info;
  char text[CIMAGE_TEXT_CAPACITY];
  if (cimage_probe(bytes, count, &info, text) != CIMAGE_OK) return 0;
  if (info.width == 0 || info.height == 0) abort();
  if ((uint64_t)info.width * info.height > MAX_PIXELS) return 0;
  for (int32_t alpha = 0; alpha <= (info.format != CIMAGE_JPEG); alpha++) {
    for (uint32_t shrink = 1; shrink <= (info.format == CIMAGE_JPEG ? 8 : 1); shrink *= 2) {
      const size_t width = (info.width + shrink - 1) / shrink, height = (info.height + shrink - 1) / shrink;
      const size_t capacity = width * height * (alpha ? 4 : 3);
      int32_t first, second;
      uint8_t *one = decoded(bytes, count, &info, alpha, shrink, capacity, 0x00, &first);
      uint8_t *other = decoded(bytes, count, &info, alpha, shrink, capacity, 0xFF, &second);
      if (first != second || (first == CIMAGE_OK && memcmp(one, other, capacity) != 0)) abort();
      free(one);
      free(other);
    }
  }
  return 0;
}
