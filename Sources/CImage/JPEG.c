#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>

#include "Codecs.h"

/// One decoding: the library's objects, and where an error leaps to.
struct work {
  struct jpeg_decompress_struct jpeg;
  struct jpeg_error_mgr errors;
  struct jpeg_source_mgr source;
  struct jpeg_progress_mgr progress;
  int most_scans;
  jmp_buf escape;
  char *text;
};

__attribute__((noreturn)) static void leave(struct work *work, const char *reason) {
  snprintf(work->text, CIMAGE_TEXT_CAPACITY, "%s", reason);
  longjmp(work->escape, 1);
}

static void on_error(j_common_ptr jpeg) {
  char reason[JMSG_LENGTH_MAX];
  jpeg->err->format_message(jpeg, reason);
  leave(jpeg->client_data, reason);
}

/// Warnings (stray bytes before a marker, a damaged segment that decoding survives) are let pass, as PIL does.
static void on_message(j_common_ptr jpeg, int level) {
  (void)jpeg;
  (void)level;
}

static void on_output(j_common_ptr jpeg) { (void)jpeg; }

static void on_progress(j_common_ptr jpeg) {
  struct work *work = jpeg->client_data;
  if (work->jpeg.input_scan_number <= work->most_scans) return;
  char reason[64];
  snprintf(reason, sizeof reason, "more than %d scans of so many pixels", work->most_scans);
  leave(work, reason);
}

/// A progressive file may repeat scans without end, each over the whole image at the cost of a few bytes. Real ones have
/// about ten. A small image may have one for each bit of each coefficient, and no image more than 2²⁸ pixels in all
/// scans or, if that is more, thirty scans.
static int most_scans(uint64_t pixels) {
  uint64_t scans = ((uint64_t)1 << 28) / (pixels == 0 ? 1 : pixels);
  return scans < 30 ? 30 : scans > 500 ? 500 : (int)scans;
}

/// All bytes are given at the start, so a request for more means that the file was cut. The library's own memory
/// source would make up an end marker and deliver a grey lower part with a warning.
static boolean on_more(j_decompress_ptr jpeg) { leave(jpeg->client_data, "the file ends early"); }

static void on_skip(j_decompress_ptr jpeg, long count) {
  if (count <= 0) return;
  if ((size_t)count > jpeg->src->bytes_in_buffer) leave(jpeg->client_data, "the file ends early");
  jpeg->src->next_input_byte += count;
  jpeg->src->bytes_in_buffer -= (size_t)count;
}

static void on_start(j_decompress_ptr jpeg) { (void)jpeg; }
static void on_end(j_decompress_ptr jpeg) { (void)jpeg; }

/// a · b / 255, rounded.
static inline uint8_t scaled(uint32_t a, uint32_t b) {
  uint32_t product = a * b + 128;
  return (uint8_t)((product + (product >> 8)) >> 8);
}

/// One row of CMYK as Adobe stores it (255 minus the ink) to RGB, the way PIL converts it: k − (255 − c) k / 255.
static void ink_to_rgb(const uint8_t *ink, uint8_t *rgb, size_t width) {
  for (size_t x = 0; x < width; x += 1, ink += 4, rgb += 3)
    for (int c = 0; c < 3; c += 1) rgb[c] = (uint8_t)(ink[3] - scaled(255u - ink[c], ink[3]));
}

static int32_t header(struct work *work, struct cimage_info *info) {
  j_decompress_ptr jpeg = &work->jpeg;
  jpeg_read_header(jpeg, TRUE);
  int components = jpeg->num_components;
  if (components != 1 && components != 3 && components != 4)
    return cimage_fail(
        CIMAGE_UNSUPPORTED, work->text, "%d colour components; 1, 3 and 4 are read", components);
  info->width = jpeg->image_width;
  info->height = jpeg->image_height;
  info->channels = components;
  info->has_alpha = 0;
  return CIMAGE_OK;
}

static void decode(struct work *work, uint32_t shrink, uint8_t *pixels) {
  j_decompress_ptr jpeg = &work->jpeg;
  int inks = jpeg->num_components == 4;
  work->most_scans = most_scans((uint64_t)jpeg->image_width * jpeg->image_height);
  jpeg->out_color_space = inks ? JCS_CMYK : JCS_RGB;
  jpeg->scale_num = 1;
  jpeg->scale_denom = shrink;
  jpeg_start_decompress(jpeg);
  // The caller made room for these sizes and no others.
  if (jpeg->output_width != (jpeg->image_width - 1) / shrink + 1 ||
      jpeg->output_height != (jpeg->image_height - 1) / shrink + 1)
    leave(work, "the library gives another size");
  size_t stride = (size_t)jpeg->output_width * 3;
  JSAMPARRAY row = NULL;
  if (inks) row = jpeg->mem->alloc_sarray((j_common_ptr)jpeg, JPOOL_IMAGE, jpeg->output_width * 4, 1);
  while (jpeg->output_scanline < jpeg->output_height) {
    uint8_t *line = pixels + jpeg->output_scanline * stride;
    if (inks) {
      jpeg_read_scanlines(jpeg, row, 1);
      ink_to_rgb(row[0], line, jpeg->output_width);
    } else {
      jpeg_read_scanlines(jpeg, &line, 1);
    }
  }
  // Reads on to the end marker: a file without one was cut.
  jpeg_finish_decompress(jpeg);
}

/// The part that may be left by a leap; what it touches belongs to the caller, so nothing is lost on the way.
static int32_t guarded(struct work *work, struct cimage_info *info, uint32_t shrink, uint8_t *pixels) {
  if (setjmp(work->escape)) return CIMAGE_DAMAGED;
  jpeg_create_decompress(&work->jpeg);
  work->jpeg.src = &work->source;
  work->jpeg.progress = &work->progress;
  struct cimage_info found = *info;
  int32_t status = header(work, &found);
  if (status != CIMAGE_OK) return status;
  if (pixels == NULL)
    *info = found;
  else if (found.width != info->width || found.height != info->height)
    return cimage_fail(CIMAGE_MISUSE, work->text, "the bytes are not those that were probed");
  else
    decode(work, shrink, pixels);
  return CIMAGE_OK;
}

int32_t cimage_jpeg(
    const uint8_t *bytes, size_t count, struct cimage_info *info, uint32_t shrink, uint8_t *pixels, char *text) {
  struct work work;
  memset(&work, 0, sizeof work);
  work.text = text;
  work.jpeg.err = jpeg_std_error(&work.errors);
  work.jpeg.client_data = &work;
  work.errors.error_exit = on_error;
  work.errors.emit_message = on_message;
  work.errors.output_message = on_output;
  work.progress.progress_monitor = on_progress;
  work.source.next_input_byte = bytes;
  work.source.bytes_in_buffer = count;
  work.source.init_source = on_start;
  work.source.fill_input_buffer = on_more;
  work.source.skip_input_data = on_skip;
  work.source.resync_to_restart = jpeg_resync_to_restart;
  work.source.term_source = on_end;
  int32_t status = guarded(&work, info, shrink, pixels);
  jpeg_destroy_decompress(&work.jpeg);
  return status;
}
