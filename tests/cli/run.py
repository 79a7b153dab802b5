#!/usr/bin/env python3
"""Tests of the command mlxn, from the outside.  Ends with "N passed, N failed".

usage: tests/cli/run.py --mlxn PATH [--full] [-v] [FILTER]

The model is the one that `mlxn pull gemma3-270m` puts into the cache, or $MLXN_TEST_MODEL; without
it the tests that need it fail."""
import argparse
import sys

import harness
import usage_tests  # noqa: F401 (registers its cases)
import pull_tests  # noqa: F401
import model_tests  # noqa: F401
import hostile_tests  # noqa: F401


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mlxn", required=True)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("-v", "--verbose", action="store_true")
    parser.add_argument("filter", nargs="?")
    options = parser.parse_args()
    mlxn = harness.Mlxn(options.mlxn)
    try:
        return 1 if harness.run_all(mlxn, options) else 0
    finally:
        mlxn.close()


if __name__ == "__main__":
    sys.exit(main())
