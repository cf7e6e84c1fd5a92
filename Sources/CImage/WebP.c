#include <webp/decode.h>

#include "Codecs.h"

static const char *meaning(VP8StatusCode code) {
  switch (code) {
    case VP8_STATUS_OUT_OF_MEMORY: return "out of memory";
    case VP8_STATUS_INVALID_PARAM: return "invalid parameter";
    case VP8_STATUS_BITSTREAM_ERROR: return "damaged data";
    case VP8_STATUS_UNSUPPORTED_FEATURE: return "unsupported feature";
    case VP8_STATUS_NOT_ENOUGH_DATA: return "the file ends early";
    default: return "decoding was abandoned";
  }
}

static int32_t failed(VP8StatusCode code, char *text) {
  int32_t status = code == VP8_STATUS_UNSUPPORTED_FEATURE ? CIMAGE_UNSUPPORTED : CIMAGE_DAMAGED;
  return cimage_fail(status, text, "%s", meaning(code));
}

int32_t cimage_webp(
    const uint8_t *bytes, size_t count, struct cimage_info *info, int32_t alpha, uint8_t *pixels, char *text) {
  WebPDecoderConfig config;
  if (!WebPInitDecoderConfig(&config)) return cimage_fail(CIMAGE_UNSUPPORTED, text, "another version of libwebp");
  VP8StatusCode code = WebPGetFeatures(bytes, count, &config.input);
  if (code != VP8_STATUS_OK) return failed(code, text);
  if (config.input.has_animation)
    return cimage_fail(CIMAGE_UNSUPPORTED, text, "an animation; only still images are read");

  uint32_t width = (uint32_t)config.input.width;
  uint32_t height = (uint32_t)config.input.height;
  if (pixels == NULL) {
    info->width = width;
    info->height = height;
    info->channels = 3;
    info->has_alpha = config.input.has_alpha ? 1 : 0;
    return CIMAGE_OK;
  }
  if (width != info->width || height != info->height)
    return cimage_fail(CIMAGE_MISUSE, text, "the bytes are not those that were probed");

  int stride = (int)width * (alpha ? 4 : 3);
  config.output.colorspace = alpha ? MODE_RGBA : MODE_RGB;
  config.output.is_external_memory = 1;
  config.output.u.RGBA.rgba = pixels;
  config.output.u.RGBA.stride = stride;
  config.output.u.RGBA.size = (size_t)stride * height;
  code = WebPDecode(bytes, count, &config);
  WebPFreeDecBuffer(&config.output);
  return code == VP8_STATUS_OK ? CIMAGE_OK : failed(code, text);
}
