/* fake.h - a libcuda and an NVRTC that need no GPU: the emulator of tests/emulator behind the
 * driver's functions, so that the host code of the CUDA backend runs, and is checked, anywhere.
 *
 * Machine code is an emulator's shared object.  Work is queued and runs only when something waits
 * for it, launches of a graph in a random order that its edges allow, so that host code which
 * relies on luck fails.  Device addresses are no host addresses; fresh memory is poisoned; every
 * address that a launch or copy is given must lie in live memory.  What a real device would answer
 * with an illegal address, the fake does too, and then nothing works any more until fake_reset. */
#ifndef MLXN_TESTS_CUDA_FAKE_H
#define MLXN_TESTS_CUDA_FAKE_H

#include <stddef.h>
#include <stdint.h>

typedef struct fake_control {
    /* what the machine has */
    int devices, architecture, driver_version, pools;
    /* a failure to inject: the call of this number, from 1, answers fail_code; 0: none */
    long fail_at;
    unsigned fail_code;
    const char *failed; /* the call that did */
    /* what happened since fake_reset */
    long calls, launches, graph_launches, syncs, copies_out;
    long edges, early_edges; /* of graphs: full, programmatic */
    long findings;           /* of the emulator, and of the fake itself */
    char finding[600];       /* the first */
    uint64_t seed;           /* order of threads, groups and graph nodes */
} fake_control;

/* Exported by the fake driver. */
fake_control *fake_get_control(void);
/* Forgets errors and counts; what is still alive stays. */
void fake_reset(void);
/* Objects that were made and not given back: memory, streams, events, modules, graphs, contexts. */
long fake_alive(char *what, size_t size);

typedef struct fake_nvrtc_control {
    int archs[8], n_archs;
    int fails; /* the compiler refuses every text */
    long compiled;
} fake_nvrtc_control;

/* Exported by the fake NVRTC. */
fake_nvrtc_control *fake_nvrtc_get_control(void);

#endif
