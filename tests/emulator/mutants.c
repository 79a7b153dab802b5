/* mutants.c - see mutants.h. */
#include "mutants.h"
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include "device.h"
#include "test.h"

enum { SECONDS = 300, PROCESSES = 2, MAX_MUTANTS = 100, SAMPLE = 5 };
/* How a process ends. */
enum { PASSED, FAILED, BROKEN };

char *emu_mutate(const char *text, const emu_mutant *mutant)
{
    const char *at = strstr(text, mutant->from);
    if (!at || strstr(at + 1, mutant->from))
        return NULL;
    char *y = malloc(strlen(text) + strlen(mutant->to) + 1);
    memcpy(y, text, (size_t)(at - text));
    strcpy(y + (at - text), mutant->to);
    strcat(y, at + strlen(mutant->from));
    return y;
}

/* ---- the process of a mutant ---- */

/* The mutant by each schedule, then the text as it is: some tests use the first device alone. */
static rig_device devices[RIG_MAX];
static int n_devices;

static const rig_device *all_devices(int *count)
{
    *count = n_devices;
    return devices;
}

static void end_failed(void)
{
    _exit(FAILED);
}

static int open_device(const emu_mutants *all, const emu_library *library, int checked,
                       int schedule)
{
    emu_device *d = emu_device_open(checked);
    if (!d)
        return 0;
    d->text = all->text;
    d->library = library;
    memcpy(d->groups, all->groups, sizeof d->groups);
    if (all->tiny)
        d->traits.processors = 0;
    d->seed = 7;
    d->traits.threads_wanted = checked ? 64 : 0;
    d->traits.schedule = schedule;
    rig_device *on = &devices[n_devices++];
    *on = (rig_device){
        .device = &d->base, .path = checked ? "mutant" : "text", .threads = 1, .slow = 1};
    return mlxn_encoder_create(&d->base, &on->encoder) == MLXN_OK;
}

/* mutant NULL: the text as it is. */
static void run_mutant(const emu_mutants *all, const emu_mutant *mutant)
{
    char log[4096];
    char *broken = mutant ? emu_mutate(all->text, mutant) : strdup(all->text);
    const emu_library *library = broken ? emu_compile(broken, 1, log, sizeof log) : NULL;
    int ok = library != NULL;
    const int first = all->override ? all->override : all->schedules ? 1 : 0;
    for (int i = first; i <= (all->override ? first : all->schedules); i++)
        ok = ok && open_device(all, library, 1, i);
    ok = ok && open_device(all, emu_text(all->text, 0), 0, all->override);
    if (!ok || !freopen("/dev/null", "w", stdout)) /* no notes */
        _exit(BROKEN);
    alarm(SECONDS);
    test_quick();
    rig_source = all_devices;
    test_on_failure = end_failed;
    _exit(test_run(all->tests) ? PASSED : BROKEN);
}

/* ---- all of them ---- */

static void judge(const emu_mutant *mutant, int status)
{
    const char *name = mutant ? mutant->name : "none";
    const int want = mutant ? FAILED : PASSED;
    if (mutant && WIFSIGNALED(status) && WTERMSIG(status) == SIGFPE)
        return; /* division of integers by zero: it is seen */
    if (WIFSIGNALED(status))
        test_failed(__FILE__, __LINE__, "mutant \"%s\" ends by signal %d", name, WTERMSIG(status));
    else if (WEXITSTATUS(status) == BROKEN)
        test_failed(__FILE__, __LINE__, "mutant \"%s\" does not apply, compile or run", name);
    else if (WEXITSTATUS(status) != want)
        test_failed(__FILE__, __LINE__, "mutant \"%s\" %s", name,
                    mutant ? "survives" : "fails: the text itself does");
}

/* The mutants to run: all in the long tier, else one in SAMPLE over all lists. */
static int choose(const emu_mutants *all, const emu_mutant *chosen[])
{
    static int number;
    int n = 0;
    for (int i = 0; i < all->count; i++)
        if (test_full() || number++ % SAMPLE == 0)
            chosen[n++] = &all->list[i];
    return n;
}

void emu_check_mutants(const emu_mutants *all)
{
    const emu_mutant *chosen[MAX_MUTANTS], *of[PROCESSES];
    pid_t running[PROCESSES];
    int n_running = 0;
    REQUIRE(all->count <= MAX_MUTANTS);
    const int count = choose(all, chosen);
    if (!count)
        return;
    if (!emu_text(all->text, 0)) /* compiled once, for all processes */
        return;
    fflush(stdout);
    for (int i = -1; i < count || n_running;) {
        if (i < count && n_running < PROCESSES) {
            const emu_mutant *mutant = i < 0 ? NULL : chosen[i];
            const pid_t pid = fork();
            if (pid == 0)
                run_mutant(all, mutant);
            REQUIRE(pid > 0);
            of[n_running] = mutant;
            running[n_running++] = pid;
            i++;
            continue;
        }
        int status = 0, at = 0;
        const pid_t pid = wait(&status);
        REQUIRE(pid > 0);
        while (at < n_running && running[at] != pid)
            at++;
        if (at == n_running)
            continue;
        judge(of[at], status);
        running[at] = running[--n_running];
        of[at] = of[n_running];
    }
    test_note("%d of %d mutants", count, all->count);
}
