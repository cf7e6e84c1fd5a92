// The border to OpenBLAS: CBLAS, and the queries that cblas.h of older releases does not declare.
#ifndef KINSHIP_COPENBLAS_H
#define KINSHIP_COPENBLAS_H
#include <cblas.h>

char *openblas_get_corename(void);
char *openblas_get_config(void);
int openblas_get_num_threads(void);
int openblas_get_parallel(void);

#endif
