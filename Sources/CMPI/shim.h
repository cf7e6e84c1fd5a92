// The border to Open MPI: its header, and handles that are macros Swift cannot import.
#ifndef KINSHIP_CMPI_H
#define KINSHIP_CMPI_H
#include <mpi.h>

static inline MPI_Comm kinship_mpi_comm_world(void) { return MPI_COMM_WORLD; }

#endif
