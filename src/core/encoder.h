/* encoder.h - what the rest of the library needs of an encoder. */
#ifndef MLXN_CORE_ENCODER_H
#define MLXN_CORE_ENCODER_H

#include "core/internal.h"

/* Whether dispatches may be recorded: MLXN_ERR_STATE after commit. */
mlxn_status mlxn_encoder_check_recording(const mlxn_encoder *encoder, const char *who);
/* Whether what is recorded may be taken: not of a dry run, which has nothing. */
mlxn_status mlxn_encoder_check_work(const mlxn_encoder *encoder, const char *who);
/* The list being recorded, and appending to it by the rules of the mode, with references to what
 * the node uses. */
mlxn_work *mlxn_encoder_work(mlxn_encoder *encoder);
mlxn_status mlxn_encoder_append(mlxn_encoder *encoder, mlxn_node *node);

#endif
