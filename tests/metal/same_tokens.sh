#!/usr/bin/env bash
# same_tokens.sh MLXN COUNT: the Metal device continues two prompts by COUNT tokens as the CPU does,
# greedily, in exact mode.  On a Mac on its GPU; elsewhere MLXN_METAL_LIBRARY names the simulator.
set -euo pipefail
mlxn=$1
count=$2

continue_on() { # DEVICE PROMPT
    "$mlxn" run --device "$1" --matmul exact --temp 0 -n "$count" -p "$2"
}

status=0
for prompt in "The capital of France is" "Water boils at"; do
    cpu=$(continue_on cpu "$prompt")
    metal=$(continue_on metal "$prompt")
    if [ "$cpu" = "$metal" ]; then
        echo "same: $metal"
    else
        printf 'CPU:   %s\nMetal: %s\n' "$cpu" "$metal"
        status=1
    fi
done
exit $status
