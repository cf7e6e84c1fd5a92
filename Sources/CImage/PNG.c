#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <png.h>

#include "Codecs.h"

/// One decoding: the bytes not yet read, the library's objects, and where an error leaps to.
struct work {
  const uint8_t *bytes;
  size_t left;
  png_structp png;
  png_infop info;
  jmp_buf escape;
  char *text;
};

__attribute__((noreturn)) static void on_error(png_structp png, png_const_charp reason) {
  struct work *work = png_get_error_ptr(png);
  snprintf(work->text, CIMAGE_TEXT_CAPACITY, "%s", reason);
  longjmp(work->escape, 1);
}

/// Warnings concern chunks that do not touch the pixels.
static void on_warning(png_structp png, png_const_charp reason) {
  (void)png;
  (void)reason;
}

static void on_read(png_structp png, png_bytep into, size_t count) {
  struct work *work = png_get_io_ptr(png);
  if (count > work->left) png_error(png, "the file ends early");
  memcpy(into, work->bytes, count);
  work->bytes += count;
  work->left -= count;
}

/// Texts, profiles and the like may be compressed and large; nothing here needs them.
static void skip_ancillary(png_structp png) {
  static const png_byte chunks[] = "iCCP\0iTXt\0tEXt\0zTXt\0sPLT\0eXIf\0hIST";
  png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, chunks, sizeof chunks / 5);
}

static void header(struct work *work, struct cimage_info *info) {
  png_read_info(work->png, work->info);
  png_byte type = png_get_color_type(work->png, work->info);
  info->width = png_get_image_width(work->png, work->info);
  info->height = png_get_image_height(work->png, work->info);
  info->channels = (type & PNG_COLOR_MASK_COLOR) && !(type & PNG_COLOR_MASK_PALETTE) ? 3 : 1;
  info->has_alpha = (type & PNG_COLOR_MASK_ALPHA) || png_get_valid(work->png, work->info, PNG_INFO_tRNS) ? 1 : 0;
}

static void decode(struct work *work, const struct cimage_info *info, int32_t alpha, uint8_t *pixels) {
  png_structp png = work->png;
  // Palette to RGB, fewer than 8 bits to 8, a transparent colour to an alpha channel.
  png_set_expand(png);
  png_set_strip_16(png);
  png_set_gray_to_rgb(png);
  if (alpha)
    png_set_add_alpha(png, 0xFF, PNG_FILLER_AFTER);
  else
    png_set_strip_alpha(png);
  int passes = png_set_interlace_handling(png);
  png_read_update_info(png, work->info);

  size_t stride = (size_t)info->width * (alpha ? 4 : 3);
  if (png_get_rowbytes(png, work->info) != stride) png_error(png, "unexpected row size");
  for (int pass = 0; pass < passes; pass += 1)
    for (uint32_t y = 0; y < info->height; y += 1) png_read_row(png, pixels + y * stride, NULL);
  // Reads on to the end chunk: a file without one was cut.
  png_read_end(png, NULL);
}

/// The part that may be left by a leap; what it touches belongs to the caller, so nothing is lost on the way.
static int32_t guarded(struct work *work, struct cimage_info *info, int32_t alpha, uint8_t *pixels) {
  if (setjmp(work->escape)) return CIMAGE_DAMAGED;
  work->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, work, on_error, on_warning);
  if (work->png != NULL) work->info = png_create_info_struct(work->png);
  if (work->info == NULL) return cimage_fail(CIMAGE_DAMAGED, work->text, "libpng could not start (out of memory?)");
  png_set_read_fn(work->png, work, on_read);
  skip_ancillary(work->png);

  struct cimage_info found = *info;
  header(work, &found);
  if (pixels == NULL)
    *info = found;
  else if (found.width != info->width || found.height != info->height)
    return cimage_fail(CIMAGE_MISUSE, work->text, "the bytes are not those that were probed");
  else
    decode(work, &found, alpha, pixels);
  return CIMAGE_OK;
}

int32_t cimage_png(
    const uint8_t *bytes, size_t count, struct cimage_info *info, int32_t alpha, uint8_t *pixels, char *text) {
  struct work work;
  memset(&work, 0, sizeof work);
  work.bytes = bytes;
  work.left = count;
  work.text = text;
  int32_t status = guarded(&work, info, alpha, pixels);
  png_destroy_read_struct(&work.png, &work.info, NULL);
  return status;
}
