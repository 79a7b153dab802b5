/* commands.h - every command of mlxn: its row, with its table of options, stands in its own file.
 * A part of a command ("bench ops") is a row of its own. */
#ifndef MLXN_CLI_COMMANDS_H
#define MLXN_CLI_COMMANDS_H

#include "args.h"

extern const command command_run, command_score, command_tokenize, command_info, command_bench,
    command_bench_ops, command_bench_step, command_bench_head_norm_rope, command_pull,
    command_completion;

/* All of them, NULL at the end. */
extern const command *const commands[];

#endif
