// runtime.hpp - a dispatch as the runner hands it to the runtime.
#pragma once
#include <string>
#include <vector>
#include "emulator.h"
#include "interface.hpp"

namespace emu
{
extern const runtime runtime_table; // for mlxn_emulator_load

enum parameter_kind { PARAMETER_IN, PARAMETER_OUT, PARAMETER_INOUT, PARAMETER_ARGS };
struct parameter {
    parameter_kind kind;
    std::string name;
};

// Runs every group; adds findings to *report.
void dispatch(const entry &kernel, const std::vector<parameter> &parameters, bool checked,
              const emu_launch &launch, emu_report *report);
} // namespace emu
