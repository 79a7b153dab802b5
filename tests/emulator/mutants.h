/* mutants.h - broken twins of kernel text: each replaces one piece of it, and each must make the
 * operators' own tests fail, by wrong output or by a finding of the emulator.  A piece occurs
 * exactly once in the text. */
#ifndef MLXN_TESTS_EMULATOR_MUTANTS_H
#define MLXN_TESTS_EMULATOR_MUTANTS_H

typedef struct emu_mutant {
    const char *name, *from, *to;
} emu_mutant;

/* The text with the piece replaced, to free; NULL unless the piece is there exactly once. */
char *emu_mutate(const char *text, const emu_mutant *mutant);

typedef struct emu_mutants {
    const char *text;
    const emu_mutant *list;
    int count;
    const char *tests;  /* the operators' tests: those whose name contains this */
    int schedules;      /* of the operator's planner, numbered from 1; 0: it has no choice */
    int override;       /* a schedule with bits of its own: every device has it; 0: none */
    unsigned groups[2]; /* as in emu_device */
    int tiny;           /* on a device of no processors, which any work keeps busy */
} emu_mutants;

/* Runs the tests on each mutant of the text (checked, a device a schedule), next to a device with
 * the text as it is; they must fail, and pass on the text itself.  Each mutant has a process of its
 * own, which ends at the first failure.  Outside the long tier only some of the mutants run. */
void emu_check_mutants(const emu_mutants *all);

#endif
