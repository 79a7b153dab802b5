/* encoder.h - what the rest of the library needs of an encoder. */
#ifndef MLXN_CORE_ENCODER_H
#define MLXN_CORE_ENCODER_H

#include "core/internal.h"

/* Whether dispatches may be recorded: MLXN_ERR_STATE after commit. */
mlxn_status mlxn_encoder_check_recording(const mlxn_encoder *encoder, const char *who);

#endif
