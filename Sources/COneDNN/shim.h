// The border to oneDNN 2 and 3: matrix products of 16-bit floats with 32-bit sums, and convolutions. oneDNN 3 has no
// descriptions of operations, and keeps those of memory to itself. These functions are the same for both.
#ifndef KINSHIP_CONEDNN_H
#define KINSHIP_CONEDNN_H
#include <oneapi/dnnl/dnnl.h>

#if DNNL_VERSION_MAJOR == 2
#define KINSHIP_DNNL_HANDLE(layout) (&(layout).description)
#elif DNNL_VERSION_MAJOR == 3
#define KINSHIP_DNNL_HANDLE(layout) ((layout).description)
#else
#error "Kinship needs oneDNN 2 or 3 (apt-get install libdnnl-dev), and this dnnl.h is of another release"
#endif

// The sizes, type and order of a matrix's or image's numbers.
typedef struct {
  dnnl_memory_desc_t description;
} kinship_dnnl_layout;

static inline dnnl_status_t kinship_dnnl_layout_by_strides(
    kinship_dnnl_layout *layout, int count, const dnnl_dim_t *sizes, dnnl_data_type_t type, const dnnl_dim_t *strides) {
#if DNNL_VERSION_MAJOR == 2
  return dnnl_memory_desc_init_by_strides(&layout->description, count, sizes, type, strides);
#else
  return dnnl_memory_desc_create_with_strides(&layout->description, count, sizes, type, strides);
#endif
}

static inline dnnl_status_t kinship_dnnl_layout_by_tag(
    kinship_dnnl_layout *layout, int count, const dnnl_dim_t *sizes, dnnl_data_type_t type, dnnl_format_tag_t tag) {
#if DNNL_VERSION_MAJOR == 2
  return dnnl_memory_desc_init_by_tag(&layout->description, count, sizes, type, tag);
#else
  return dnnl_memory_desc_create_with_tag(&layout->description, count, sizes, type, tag);
#endif
}

// Frees a layout that one of the two functions above has made.
static inline void kinship_dnnl_layout_destroy(kinship_dnnl_layout layout) {
#if DNNL_VERSION_MAJOR == 2
  (void)layout;
#else
  dnnl_memory_desc_destroy(layout.description);
#endif
}

// Finds the layout that a primitive has chosen. It belongs to the primitive's description, which must outlive it.
static inline dnnl_status_t kinship_dnnl_layout_chosen(
    kinship_dnnl_layout *layout, const_dnnl_primitive_desc_t primitive, dnnl_query_t what) {
#if DNNL_VERSION_MAJOR == 2
  const dnnl_memory_desc_t *found = dnnl_primitive_desc_query_md(primitive, what, 0);
  if (found) layout->description = *found;
#else
  const_dnnl_memory_desc_t found = dnnl_primitive_desc_query_md(primitive, what, 0);
  if (found) layout->description = (dnnl_memory_desc_t)found;
#endif
  return found ? dnnl_success : dnnl_invalid_arguments;
}

static inline size_t kinship_dnnl_layout_bytes(kinship_dnnl_layout layout) {
  return dnnl_memory_desc_get_size(KINSHIP_DNNL_HANDLE(layout));
}

static inline int kinship_dnnl_layout_equal(kinship_dnnl_layout a, kinship_dnnl_layout b) {
  return dnnl_memory_desc_equal(KINSHIP_DNNL_HANDLE(a), KINSHIP_DNNL_HANDLE(b));
}

// Makes a memory object without memory of its own.
static inline dnnl_status_t kinship_dnnl_memory_create(
    dnnl_memory_t *memory, kinship_dnnl_layout layout, dnnl_engine_t engine) {
  return dnnl_memory_create(memory, KINSHIP_DNNL_HANDLE(layout), engine, DNNL_MEMORY_NONE);
}

static inline dnnl_status_t kinship_dnnl_reorder_create(
    dnnl_primitive_desc_t *primitive, kinship_dnnl_layout from, kinship_dnnl_layout to, dnnl_engine_t engine) {
  return dnnl_reorder_primitive_desc_create(
      primitive, KINSHIP_DNNL_HANDLE(from), engine, KINSHIP_DNNL_HANDLE(to), engine, NULL);
}

// Adds results to what the target holds.
static inline dnnl_status_t kinship_dnnl_append_sum(dnnl_post_ops_t operations) {
#if DNNL_VERSION_MAJOR == 2
  return dnnl_post_ops_append_sum(operations, 1);
#else
  return dnnl_post_ops_append_sum(operations, 1, 0, dnnl_data_type_undef);
#endif
}

// c = a b + bias, or without it if `bias` is null.
static inline dnnl_status_t kinship_dnnl_product_create(
    dnnl_primitive_desc_t *primitive, dnnl_engine_t engine, kinship_dnnl_layout a, kinship_dnnl_layout b,
    const kinship_dnnl_layout *bias, kinship_dnnl_layout c, const_dnnl_primitive_attr_t attributes) {
#if DNNL_VERSION_MAJOR == 2
  dnnl_matmul_desc_t operation;
  dnnl_status_t status = dnnl_matmul_desc_init(
      &operation, &a.description, &b.description, bias ? &bias->description : NULL, &c.description);
  if (status != dnnl_success) return status;
  return dnnl_primitive_desc_create(primitive, &operation, attributes, engine, NULL);
#else
  return dnnl_matmul_primitive_desc_create(
      primitive, engine, a.description, b.description, bias ? bias->description : NULL, c.description, attributes);
#endif
}

// y = w ∗ x over planes, without dilation.
static inline dnnl_status_t kinship_dnnl_convolution_create(
    dnnl_primitive_desc_t *primitive, dnnl_engine_t engine, kinship_dnnl_layout x, kinship_dnnl_layout w,
    kinship_dnnl_layout y, const dnnl_dim_t *strides, const dnnl_dim_t *borders,
    const_dnnl_primitive_attr_t attributes) {
#if DNNL_VERSION_MAJOR == 2
  dnnl_convolution_desc_t operation;
  dnnl_status_t status = dnnl_convolution_forward_desc_init(
      &operation, dnnl_forward_training, dnnl_convolution_direct, &x.description, &w.description, NULL,
      &y.description, strides, borders, borders);
  if (status != dnnl_success) return status;
  return dnnl_primitive_desc_create(primitive, &operation, attributes, engine, NULL);
#else
  const dnnl_dims_t dilation = {0};
  return dnnl_convolution_forward_primitive_desc_create(
      primitive, engine, dnnl_forward_training, dnnl_convolution_direct, x.description, w.description, NULL,
      y.description, strides, dilation, borders, borders, attributes);
#endif
}

// The gradient of x, given that of y and the description of the forward.
static inline dnnl_status_t kinship_dnnl_convolution_backward_create(
    dnnl_primitive_desc_t *primitive, dnnl_engine_t engine, kinship_dnnl_layout dx, kinship_dnnl_layout w,
    kinship_dnnl_layout dy, const dnnl_dim_t *strides, const dnnl_dim_t *borders,
    const_dnnl_primitive_desc_t forward, const_dnnl_primitive_attr_t attributes) {
#if DNNL_VERSION_MAJOR == 2
  dnnl_convolution_desc_t operation;
  dnnl_status_t status = dnnl_convolution_backward_data_desc_init(
      &operation, dnnl_convolution_direct, &dx.description, &w.description, &dy.description, strides, borders, borders);
  if (status != dnnl_success) return status;
  return dnnl_primitive_desc_create(primitive, &operation, attributes, engine, forward);
#else
  const dnnl_dims_t dilation = {0};
  return dnnl_convolution_backward_data_primitive_desc_create(
      primitive, engine, dnnl_convolution_direct, dx.description, w.description, dy.description, strides, dilation,
      borders, borders, forward, attributes);
#endif
}

#endif
