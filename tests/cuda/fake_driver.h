/* fake_driver.h - the parts of the fake driver: memory and counts (fake_memory.c), the stream and
 * what runs on it (fake_stream.c), the driver's functions (fake_driver.c, fake_code.c,
 * fake_graph.c). */
#ifndef MLXN_TESTS_CUDA_FAKE_DRIVER_H
#define MLXN_TESTS_CUDA_FAKE_DRIVER_H

#include "backends/cuda/driver.h"
#include "emulator.h"
#include "fake.h"

enum { FAKE_PARAMETERS = 32 };

/* Results of libcuda that the backend does not tell from others. */
enum {
    FAKE_INVALID_VALUE = 1,
    FAKE_INVALID_CONTEXT = 201,
    FAKE_OPERATING_SYSTEM = 304,
    FAKE_INVALID_HANDLE = 400,
    FAKE_NOT_FOUND = 500,
};

extern fake_control fake; /* the knobs and counts */

/* Objects by kind: made minus given back. */
typedef enum fake_kind {
    FAKE_MEMORY,
    FAKE_PINNED,
    FAKE_STREAM,
    FAKE_EVENT,
    FAKE_MODULE,
    FAKE_GRAPH,
    FAKE_EXECUTABLE,
    FAKE_CONTEXT,
    FAKE_KINDS,
} fake_kind;
extern long fake_live[FAKE_KINDS];

#define CUDA_FUNCTION(need, name, parameters) CUDA_RESULT name parameters;
#include "backends/cuda/driver.def"
#undef CUDA_FUNCTION

/* ---- a call of the driver ---- */

/* Begins a call, which nothing else runs beside, and counts it; what it fails with, injected or
 * since an earlier call.  Calls that give something back do so even then. */
unsigned fake_enter(const char *name);
/* Ends a call: its result. */
unsigned fake_leave(unsigned result);
int fake_gives_back(const char *name);
int fake_has_context(const char *name); /* 0: the thread has none, which is a finding */

/* What every function begins with, and what those that need a context go on with. */
#define ENTER                                      \
    unsigned result = fake_enter(__func__);        \
    if (result != 0 && !fake_gives_back(__func__)) \
    return fake_leave(result)
#define NEEDS_CONTEXT                \
    if (!fake_has_context(__func__)) \
    return fake_leave(FAKE_INVALID_CONTEXT)

void fake_find(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- memory ---- */

unsigned long long fake_memory_take(size_t bytes); /* poisoned; 0: no memory */
int fake_memory_give(unsigned long long address);  /* whether it was live */
void *fake_pinned_take(size_t bytes);
int fake_pinned_give(void *memory);
/* Where the host finds [address, address + bytes); NULL unless all of it is live.  *room: bytes to
 * the end of the allocation. */
unsigned char *fake_memory_at(unsigned long long address, size_t bytes, size_t *room);
/* A number that an allocation is marked with, 0 at first; of the one that an address lies in. */
void fake_memory_mark(unsigned long long address, unsigned long mark);
unsigned long fake_memory_marked(unsigned long long address);
int fake_is_pinned(const void *memory, size_t bytes);
/* The device's address of pinned memory. */
unsigned long long fake_pinned_address(const void *memory);

/* ---- the stream ---- */

struct CUevent_st {
    unsigned long step;
    double time; /* seconds */
};

typedef struct CUfunc_st {
    const emu_library *library; /* NULL: PTX, which cannot run here */
    char name[128];
    int n_parameters; /* the args struct included */
    size_t args_bytes;
    uint32_t writes; /* bit i: parameter i */
    struct CUfunc_st *next;
} fake_function;

typedef struct fake_launch {
    const fake_function *function;
    uint32_t grid[3], threads;
    unsigned long long address[FAKE_PARAMETERS];
    unsigned char args[4096];
} fake_launch;

/* Copies and checks what cuLaunchKernel is given. */
unsigned fake_launch_make(fake_launch *launch, const fake_function *function, const unsigned *grid,
                          const unsigned *block, void **parameters);

typedef struct CUgraphNode_st {
    fake_launch launch;
    double *time; /* an event's: the node does nothing but note it */
    size_t n_after;
    struct CUgraphNode_st **after;
    int index, done;
    int early; /* an edge to it is programmatic */
} fake_node;

typedef struct CUgraphExec_st {
    int n;
    fake_node *nodes; /* after: by address into this array */
} fake_executable;

typedef enum fake_step_kind {
    FAKE_COPY_IN,
    FAKE_COPY_OUT,
    FAKE_COPY_INSIDE,
    FAKE_SET,
    FAKE_RUN,
    FAKE_RUN_GRAPH,
    FAKE_FREE,
    FAKE_EVENT_STEP,
} fake_step_kind;

typedef struct fake_step {
    fake_step_kind kind;
    unsigned long long address;
    const void *from; /* pinned: read when the step runs; else NULL, and `copy` holds the bytes */
    void *to, *copy;
    unsigned long long source; /* of a copy inside */
    double *time;              /* of an event */
    size_t bytes;
    unsigned char value;
    fake_launch *launch;
    fake_executable *executable;
    struct fake_step *next;
} fake_step;

/* Appends a copy of a step and gives its number. */
unsigned long fake_queue(const fake_step *step);
/* Runs all steps up to number `last`; the error that the device is left in, 0 if none. */
unsigned fake_run(unsigned long last);
unsigned long fake_newest(void);
unsigned long fake_ran(void);
unsigned fake_sticky(void);
void fake_clear_sticky(void);

#endif
