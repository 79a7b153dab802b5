/* metalsim.h - what the tests ask of the simulator, a shared library that stands in for Apple's
 * Objective-C runtime, Foundation and Metal.
 *
 * It has the parts that the backend uses (the methods that metalsim_methods lists; each is held
 * against the metadata by check_messages.py), as Apple documents them, and runs kernels in the
 * emulator.  Misuse ends the program with a line "metalsim: ..." on stderr: an unknown selector, a
 * message to a freed object, an over-release, an object autoreleased without a pool, an encoder
 * used after its end or left open at commit, a second commit, a wait before commit, an index,
 * offset, length or size out of its limits, a parameter that nothing is bound to, memory freed
 * while a command buffer uses it.  What goes wrong inside a kernel (see emulator.h), and two
 * dispatches of an encoder that touch the same bytes with no barrier between, ends the command
 * buffer with an error. */
#ifndef MLXN_TESTS_METALSIM_H
#define MLXN_TESTS_METALSIM_H

#include <stddef.h>
#include <stdint.h>

#define METALSIM_API __attribute__((visibility("default")))

typedef struct metalsim_settings {
    int checked;               /* kernel text is compiled with all checks */
    uint64_t seed;             /* order of threads, groups and dispatches; 0: as written */
    int workers;               /* OS threads for groups, 1 or 2 */
    unsigned long max_threads; /* of a pipeline whose descriptor does not ask for more */
    long family;               /* highest Apple GPU family */
    int macos;                 /* major version: methods of later systems are not there */
} metalsim_settings;
/* In force from the next use on; they start as checked, seed 1, 1 worker, 1024, 1009, 15.  With
 * METALSIM_FAST in the environment as unchecked, in order, 2 workers, and with METALSIM_COUNTS some
 * counts are printed at the end, where objects that live are a failure: for programs that do not
 * know of the simulator. */
METALSIM_API extern metalsim_settings metalsim;

typedef enum metalsim_failure {
    METALSIM_FAIL_DEVICE,   /* there is no device */
    METALSIM_FAIL_BUFFER,   /* an allocation gives nil */
    METALSIM_FAIL_LIBRARY,  /* a text does not compile */
    METALSIM_FAIL_PIPELINE, /* a pipeline cannot be made */
    METALSIM_FAIL_ARCHIVE,  /* a binary archive cannot be opened, added to or written */
    METALSIM_FAIL_COMMANDS, /* a command buffer ends with an error */
    METALSIM_FAIL_LOST,     /* the device is removed: so does every one after it */
    METALSIM_FAILURES
} metalsim_failure;
/* The use number `after` of the kind from now on (0: the next one) fails. */
METALSIM_API void metalsim_fail(metalsim_failure kind, int after);
METALSIM_API void metalsim_heal(void); /* forgets planned failures and a lost device */

/* Objects that live once all committed work is done, by class in `list` ("MTLBuffer 2, ...") where
 * it is not NULL. */
METALSIM_API long metalsim_live(char *list, size_t size);

typedef struct metalsim_counts {
    long dispatches, barriers, command_buffers, encoders, pipeline_changes, buffer_changes,
        offset_changes;
    long idle_barriers;          /* of checked text, that no dispatch needed */
    long objects;                /* ever made */
    long in_flight_max;          /* command buffers committed and not completed */
    long resident;               /* allocations in residency sets */
    long compiled, archived;     /* pipelines that were compiled; that an archive had */
    unsigned long language;      /* of the newest library */
    int precise;                 /* whether it was compiled without fast maths */
    unsigned long asked_threads; /* of the newest pipeline's descriptor */
} metalsim_counts;
METALSIM_API extern metalsim_counts metalsim_count;

/* Lines "class selector encoding". */
METALSIM_API const char *metalsim_methods(void);

#endif
