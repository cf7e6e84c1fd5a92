// The border to Open MPI: its header, and the handles that are macros Swift cannot import.
#ifndef KINSHIP_CMPI_H
#define KINSHIP_CMPI_H
#include <mpi.h>
#ifdef __linux__
#include <signal.h>
#include <sys/prctl.h>
#endif

#if !defined(OPEN_MPI) || OMPI_MAJOR_VERSION < 4
#error "Kinship needs Open MPI 4.1 or 5 (apt-get install libopenmpi-dev), and this mpi.h is of another MPI or release"
#endif

static inline MPI_Comm kinship_mpi_comm_world(void) { return MPI_COMM_WORLD; }
static inline MPI_Errhandler kinship_mpi_errors_return(void) { return MPI_ERRORS_RETURN; }
static inline MPI_Info kinship_mpi_info_null(void) { return MPI_INFO_NULL; }

static inline MPI_Status *kinship_mpi_status_ignore(void) { return MPI_STATUS_IGNORE; }

static inline MPI_Datatype kinship_mpi_float(void) { return MPI_FLOAT; }
static inline MPI_Datatype kinship_mpi_double(void) { return MPI_DOUBLE; }
static inline MPI_Datatype kinship_mpi_int64(void) { return MPI_INT64_T; }
static inline MPI_Datatype kinship_mpi_byte(void) { return MPI_BYTE; }

static inline MPI_Op kinship_mpi_sum(void) { return MPI_SUM; }
static inline MPI_Op kinship_mpi_max(void) { return MPI_MAX; }

static inline const void *kinship_mpi_in_place(void) { return MPI_IN_PLACE; }

// Has the kernel end this process together with its parent, where it can do that.
static inline void kinship_mpi_end_with_parent(void) {
#ifdef __linux__
  prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
}

#endif
