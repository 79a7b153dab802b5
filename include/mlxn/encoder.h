/* encoder.h - records dispatches, commits them to the device's queue, waits for them.
 *
 *   recording --commit--> committed --wait--> done --reset--> recording
 *
 * Dispatches of one encoder may run concurrently unless a barrier orders them.  In the automatic
 * mode (the default) the encoder puts a barrier exactly where a dispatch would read or write what
 * an earlier one since the last barrier wrote (RAW, WAW) or write what it read (WAR).  Hazards are
 * found on storage ranges, so two views of one allocation are seen; strided views of equal row
 * pitch are compared exactly (interleaved q, k and v are disjoint), others by their whole range.
 *
 * Commits run in the order in which they were made.  Commit never blocks.  A failure while the work
 * runs (an id out of range, a lost device) comes back from wait.  The encoder keeps the storage of
 * its operands alive until reset or release.
 *
 * What a device can do is asked with the call itself, on an encoder that is a dry run: an operator,
 * dispatch or replay makes all its checks, plans the work for the device and compiles what that
 * needs, and answers with the status and text that recording it would give (MLXN_ERR_UNSUPPORTED
 * where the device cannot), but nothing is recorded.  What the operands contain does not matter. */
#ifndef MLXN_ENCODER_H
#define MLXN_ENCODER_H

#include <mlxn/buffer.h>

MLXN_EXTERN_C_BEGIN

typedef struct mlxn_encoder mlxn_encoder;

typedef enum mlxn_barrier_mode {
    MLXN_BARRIERS_AUTO = 0,     /* the encoder finds and places them */
    MLXN_BARRIERS_EXPLICIT = 1, /* only mlxn_encoder_barrier places them */
    MLXN_BARRIERS_VALIDATE = 2, /* as explicit; a dispatch that needs one fails, ERR_HAZARD */
} mlxn_barrier_mode;

typedef struct mlxn_encoder_desc {
    size_t size;
    mlxn_barrier_mode barriers;
    int dry_run; /* 1: nothing is recorded; commit and capture answer MLXN_ERR_STATE */
} mlxn_encoder_desc;

typedef struct mlxn_counters {
    size_t size;         /* set by the caller */
    uint64_t dispatches; /* recorded, those of replayed graphs included */
    uint64_t barriers;   /* placed or recorded, those of replayed graphs included */
    uint64_t commits;
    uint64_t syncs;     /* waits that had to wait */
    double gpu_seconds; /* Metal: how long the device ran finished commits; elsewhere 0 */
} mlxn_counters;

MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_encoder_create(mlxn_device *device, mlxn_encoder **out);
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_encoder_create_with(mlxn_device *device,
                                                              const mlxn_encoder_desc *desc,
                                                              mlxn_encoder **out);
MLXN_API mlxn_encoder *mlxn_encoder_retain(mlxn_encoder *encoder);
/* Waits for committed work first. */
MLXN_API void mlxn_encoder_release(mlxn_encoder *encoder);
MLXN_API mlxn_device *mlxn_encoder_device(const mlxn_encoder *encoder); /* not retained */

/* Everything recorded before runs before anything recorded after.  Two in a row are one. */
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_encoder_barrier(mlxn_encoder *encoder);
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_encoder_commit(mlxn_encoder *encoder);
/* MLXN_ERR_STATE before commit.  After done, returns the same result again. */
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_encoder_wait(mlxn_encoder *encoder);
/* Empties the encoder for reuse; waits for committed work first.  Counters go on. */
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_encoder_reset(mlxn_encoder *encoder);
MLXN_API MLXN_MUST_CHECK mlxn_status mlxn_encoder_get_counters(const mlxn_encoder *encoder,
                                                               mlxn_counters *counters);

MLXN_EXTERN_C_END
#endif
