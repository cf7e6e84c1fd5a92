#include <string.h>

#include <webp/encode.h>

#include "CImage.h"

size_t cimage_encode_webp(
    const uint8_t *pixels, uint32_t width, uint32_t height, float quality, uint8_t *bytes, size_t capacity) {
  WebPConfig config;
  WebPPicture picture;
  WebPMemoryWriter writer;
  if (width > WEBP_MAX_DIMENSION || height > WEBP_MAX_DIMENSION) return 0;
  if (!WebPConfigPreset(&config, WEBP_PRESET_PICTURE, quality) || !WebPPictureInit(&picture)) return 0;
  // Colours stay where they belong: small drawings have hard edges.
  config.use_sharp_yuv = 1;
  WebPMemoryWriterInit(&writer);
  picture.use_argb = 1;
  picture.width = (int)width;
  picture.height = (int)height;
  picture.writer = WebPMemoryWrite;
  picture.custom_ptr = &writer;
  size_t count = 0;
  if (WebPPictureImportRGB(&picture, pixels, (int)width * 3) && WebPEncode(&config, &picture) && writer.size <= capacity) {
    memcpy(bytes, writer.mem, writer.size);
    count = writer.size;
  }
  WebPPictureFree(&picture);
  WebPMemoryWriterClear(&writer);
  return count;
}
