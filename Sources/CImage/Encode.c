#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
#include <png.h>
#include <webp/encode.h>

#include "Codecs.h"

/// One encoding: the file as it grows, and where an error leaps to. Kept outside the function that may be left.
struct work {
  uint8_t *bytes;
  size_t count;
  size_t room;
  jmp_buf escape;
  char *text;
};

static int append(struct work *work, const uint8_t *bytes, size_t count) {
  if (count > work->room - work->count) {
    size_t room = (work->count + count) * 2;
    uint8_t *grown = realloc(work->bytes, room);
    if (grown == NULL) return 0;
    work->bytes = grown;
    work->room = room;
  }
  memcpy(work->bytes + work->count, bytes, count);
  work->count += count;
  return 1;
}

/// libjpeg's destination: a block at a time, appended to the file.
struct sink {
  struct jpeg_destination_mgr manager;
  struct work *work;
  uint8_t block[1 << 14];
};

static void on_start(j_compress_ptr jpeg) {
  struct sink *sink = (struct sink *)jpeg->dest;
  sink->manager.next_output_byte = sink->block;
  sink->manager.free_in_buffer = sizeof sink->block;
}

__attribute__((noreturn)) static void on_jpeg_error(j_common_ptr jpeg) {
  struct work *work = jpeg->client_data;
  char reason[JMSG_LENGTH_MAX];
  jpeg->err->format_message(jpeg, reason);
  snprintf(work->text, CIMAGE_TEXT_CAPACITY, "%s", reason);
  longjmp(work->escape, 1);
}

static void flush(j_compress_ptr jpeg, size_t count) {
  struct sink *sink = (struct sink *)jpeg->dest;
  if (!append(sink->work, sink->block, count)) {
    snprintf(sink->work->text, CIMAGE_TEXT_CAPACITY, "out of memory");
    longjmp(sink->work->escape, 1);
  }
  on_start(jpeg);
}

static boolean on_full(j_compress_ptr jpeg) {
  flush(jpeg, sizeof ((struct sink *)jpeg->dest)->block);
  return TRUE;
}

static void on_end(j_compress_ptr jpeg) {
  flush(jpeg, sizeof ((struct sink *)jpeg->dest)->block - jpeg->dest->free_in_buffer);
}

static int32_t jpeg(
    struct work *work, struct jpeg_compress_struct *jpeg, struct sink *sink, const uint8_t *rgb, uint32_t width,
    uint32_t height, int32_t quality) {
  if (setjmp(work->escape)) return CIMAGE_MISUSE;
  jpeg_create_compress(jpeg);
  jpeg->dest = &sink->manager;
  jpeg->image_width = width;
  jpeg->image_height = height;
  jpeg->input_components = 3;
  jpeg->in_color_space = JCS_RGB;
  jpeg_set_defaults(jpeg);
  jpeg_set_quality(jpeg, quality, TRUE);
  jpeg_start_compress(jpeg, TRUE);
  while (jpeg->next_scanline < height) {
    // libjpeg only reads the rows.
    JSAMPROW row = (JSAMPROW)(uintptr_t)(rgb + (size_t)jpeg->next_scanline * width * 3);
    jpeg_write_scanlines(jpeg, &row, 1);
  }
  jpeg_finish_compress(jpeg);
  return CIMAGE_OK;
}

static int32_t encode_jpeg(
    struct work *work, const uint8_t *rgb, uint32_t width, uint32_t height, int32_t quality) {
  struct jpeg_compress_struct compress;
  struct jpeg_error_mgr errors;
  struct sink sink;
  memset(&compress, 0, sizeof compress);
  memset(&sink, 0, sizeof sink);
  compress.err = jpeg_std_error(&errors);
  errors.error_exit = on_jpeg_error;
  compress.client_data = work;
  sink.work = work;
  sink.manager.init_destination = on_start;
  sink.manager.empty_output_buffer = on_full;
  sink.manager.term_destination = on_end;
  int32_t status = jpeg(work, &compress, &sink, rgb, width, height, quality);
  jpeg_destroy_compress(&compress);
  return status;
}

__attribute__((noreturn)) static void on_png_error(png_structp png, png_const_charp reason) {
  struct work *work = png_get_error_ptr(png);
  snprintf(work->text, CIMAGE_TEXT_CAPACITY, "%s", reason);
  longjmp(work->escape, 1);
}

static void on_png_write(png_structp png, png_bytep bytes, size_t count) {
  if (!append(png_get_io_ptr(png), bytes, count)) png_error(png, "out of memory");
}

static void on_png_flush(png_structp png) { (void)png; }

static int32_t png(
    struct work *work, png_structp *png, png_infop *info, const uint8_t *rgb, uint32_t width, uint32_t height) {
  if (setjmp(work->escape)) return CIMAGE_MISUSE;
  *png = png_create_write_struct(PNG_LIBPNG_VER_STRING, work, on_png_error, NULL);
  if (*png != NULL) *info = png_create_info_struct(*png);
  if (*info == NULL) return cimage_fail(CIMAGE_MISUSE, work->text, "libpng could not start (out of memory?)");
  png_set_write_fn(*png, work, on_png_write, on_png_flush);
  png_set_IHDR(
      *png, *info, width, height, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
      PNG_FILTER_TYPE_DEFAULT);
  png_write_info(*png, *info);
  for (uint32_t y = 0; y < height; y += 1) png_write_row(*png, rgb + (size_t)y * width * 3);
  png_write_end(*png, *info);
  return CIMAGE_OK;
}

static int32_t encode_png(struct work *work, const uint8_t *rgb, uint32_t width, uint32_t height) {
  png_structp writer = NULL;
  png_infop info = NULL;
  int32_t status = png(work, &writer, &info, rgb, width, height);
  png_destroy_write_struct(&writer, &info);
  return status;
}

static int32_t encode_webp(
    struct work *work, const uint8_t *rgb, uint32_t width, uint32_t height, int32_t quality) {
  WebPConfig config;
  WebPPicture picture;
  WebPMemoryWriter writer;
  if (!WebPConfigPreset(&config, WEBP_PRESET_PICTURE, (float)quality) || !WebPPictureInit(&picture))
    return cimage_fail(CIMAGE_UNSUPPORTED, work->text, "another version of libwebp");
  // Colours stay where they belong: small drawings have hard edges.
  config.use_sharp_yuv = 1;
  WebPMemoryWriterInit(&writer);
  picture.use_argb = 1;
  picture.width = (int)width;
  picture.height = (int)height;
  picture.writer = WebPMemoryWrite;
  picture.custom_ptr = &writer;
  int32_t status = CIMAGE_OK;
  if (width > WEBP_MAX_DIMENSION || height > WEBP_MAX_DIMENSION)
    status = cimage_fail(CIMAGE_UNSUPPORTED, work->text, "sides of more than %d pixels", WEBP_MAX_DIMENSION);
  else if (!WebPPictureImportRGB(&picture, rgb, (int)width * 3) || !WebPEncode(&config, &picture))
    status = cimage_fail(CIMAGE_UNSUPPORTED, work->text, "libwebp gives error %d", picture.error_code);
  else if (!append(work, writer.mem, writer.size))
    status = cimage_fail(CIMAGE_MISUSE, work->text, "out of memory");
  WebPPictureFree(&picture);
  WebPMemoryWriterClear(&writer);
  return status;
}

int32_t cimage_encode(
    int32_t format, const uint8_t *rgb, uint32_t width, uint32_t height, int32_t quality, uint8_t **bytes,
    size_t *count, char *text) {
  struct work work;
  memset(&work, 0, sizeof work);
  work.text = text;
  int32_t status;
  switch (format) {
    case CIMAGE_JPEG: status = encode_jpeg(&work, rgb, width, height, quality); break;
    case CIMAGE_PNG: status = encode_png(&work, rgb, width, height); break;
    case CIMAGE_WEBP: status = encode_webp(&work, rgb, width, height, quality); break;
    default: status = cimage_fail(CIMAGE_UNKNOWN_FORMAT, text, "no format %d", format);
  }
  if (status != CIMAGE_OK) {
    free(work.bytes);
    return status;
  }
  *bytes = work.bytes;
  *count = work.count;
  return CIMAGE_OK;
}
