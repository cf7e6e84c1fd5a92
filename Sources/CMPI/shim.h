// The border to Open MPI: its header, and the handles that are macros Swift cannot import.
#ifndef KINSHIP_CMPI_H
#define KINSHIP_CMPI_H
#include <mpi.h>
#include <string.h>
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
static inline MPI_Datatype kinship_mpi_uint16(void) { return MPI_UINT16_T; }
static inline MPI_Datatype kinship_mpi_byte(void) { return MPI_BYTE; }

static inline MPI_Op kinship_mpi_sum(void) { return MPI_SUM; }
static inline MPI_Op kinship_mpi_max(void) { return MPI_MAX; }

static inline const void *kinship_mpi_in_place(void) { return MPI_IN_PLACE; }

// Lists the components of a framework whose parameters exist, such as `ob1` of `ompi_pml_`: what follows the prefix in the
// names of MPI_T's categories, separated by spaces. Open MPI withdraws the categories of a component that it closes, and
// of the message layers (pml) it closes all but the one that it has selected. (Variables do not tell: Open MPI 5 keeps
// some names of ucx.) MPI must have been started. Returns 0, or -1 if MPI does not say it or `names` is too short.
static inline int kinship_mpi_components(const char *prefix, char *names, int capacity) {
  int level, count = 0, used = 0, status = 0, length = (int)strlen(prefix);
  if (capacity < 1) return -1;
  names[0] = 0;
  // Open MPI takes the level for that of the whole process.
  if (MPI_T_init_thread(MPI_THREAD_MULTIPLE, &level) != MPI_SUCCESS) return -1;
  if (MPI_T_category_get_num(&count) != MPI_SUCCESS) status = -1;
  for (int index = 0; index < count && status == 0; index++) {
    char name[256], text[2];
    int size = sizeof name, text_size = sizeof text, variables, counters, parts;
    // A category that was withdrawn has no name.
    if (MPI_T_category_get_info(index, name, &size, text, &text_size, &variables, &counters, &parts) != MPI_SUCCESS)
      continue;
    name[sizeof name - 1] = 0;
    if (strncmp(name, prefix, (size_t)length) != 0 || name[length] == 0) continue;
    int rest = (int)strlen(name + length);
    if (used + rest + 2 > capacity) {
      status = -1;
      break;
    }
    if (used > 0) names[used++] = ' ';
    memcpy(names + used, name + length, (size_t)rest + 1);
    used += rest;
  }
  MPI_T_finalize();
  return status;
}

// Has the kernel end this process together with its parent, where it can do that.
static inline void kinship_mpi_end_with_parent(void) {
#ifdef __linux__
  prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
}

#endif
