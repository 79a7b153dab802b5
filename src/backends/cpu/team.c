/* team.c - a fixed team of threads that wakes once for a job.
 *
 * Workers wait for the next job, and all threads wait at barriers, by spinning for a bounded time
 * and then sleeping on the word they wait for.  A team larger than the CPUs it may use does not
 * spin at all: the thread it waits for may need the very CPU. */
#if defined(__linux__)
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "backends/cpu/cpu.h"

#if defined(__linux__)
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#endif

/* One word that threads wait on, alone in its cache lines. */
typedef struct wait_word {
    _Alignas(128) atomic_uint value;
    atomic_uint sleepers;
#if !defined(__linux__)
    pthread_mutex_t lock;
    pthread_cond_t changed;
#endif
} wait_word;

struct mlxn_cpu_team {
    wait_word job_number; /* counts jobs; a change is a new job */
    wait_word phase;      /* counts barriers */
    _Alignas(128) atomic_uint arrived;
    uint32_t n;
    uint32_t spins;
    uint32_t started;
    mlxn_cpu_job job; /* NULL: leave */
    void *context;
    struct worker {
        mlxn_cpu_team *team;
        uint32_t thread;
        pthread_t id;
    } workers[];
};

enum { SPINS = 3000 }; /* some tens of microseconds */

static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

#if defined(__linux__)

static void word_init(wait_word *word)
{
    atomic_init(&word->value, 0);
    atomic_init(&word->sleepers, 0);
}

static void word_fini(wait_word *word)
{
    (void)word;
}

static void word_sleep(wait_word *word, unsigned old)
{
    atomic_fetch_add(&word->sleepers, 1);
    while (atomic_load(&word->value) == old)
        syscall(SYS_futex, &word->value, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
    atomic_fetch_sub(&word->sleepers, 1);
}

static void word_set(wait_word *word, unsigned value)
{
    atomic_store(&word->value, value);
    if (atomic_load(&word->sleepers))
        syscall(SYS_futex, &word->value, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

uint32_t mlxn_cpu_available(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        return (uint32_t)CPU_COUNT(&set);
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (uint32_t)n : 1;
}

#else

static void word_init(wait_word *word)
{
    atomic_init(&word->value, 0);
    atomic_init(&word->sleepers, 0);
    pthread_mutex_init(&word->lock, NULL);
    pthread_cond_init(&word->changed, NULL);
}

static void word_fini(wait_word *word)
{
    pthread_cond_destroy(&word->changed);
    pthread_mutex_destroy(&word->lock);
}

static void word_sleep(wait_word *word, unsigned old)
{
    pthread_mutex_lock(&word->lock);
    atomic_fetch_add(&word->sleepers, 1);
    while (atomic_load(&word->value) == old)
        pthread_cond_wait(&word->changed, &word->lock);
    atomic_fetch_sub(&word->sleepers, 1);
    pthread_mutex_unlock(&word->lock);
}

static void word_set(wait_word *word, unsigned value)
{
    atomic_store(&word->value, value);
    if (atomic_load(&word->sleepers)) {
        pthread_mutex_lock(&word->lock);
        pthread_cond_broadcast(&word->changed);
        pthread_mutex_unlock(&word->lock);
    }
}

uint32_t mlxn_cpu_available(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (uint32_t)n : 1;
}

#endif

static void do_nothing(void *context)
{
    (void)context;
}

static void word_wait(wait_word *word, unsigned old, uint32_t spins, mlxn_cpu_idle idle,
                      void *context)
{
    for (uint32_t i = 0; i < spins; i++) {
        if (atomic_load_explicit(&word->value, memory_order_acquire) != old)
            return;
        idle(context);
        relax();
    }
    word_sleep(word, old);
}

void mlxn_cpu_team_barrier(mlxn_cpu_team *team, mlxn_cpu_idle idle, void *context)
{
    if (team->n == 1)
        return;
    unsigned phase = atomic_load_explicit(&team->phase.value, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&team->arrived, 1, memory_order_acq_rel) + 1 == team->n) {
        atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
        word_set(&team->phase, phase + 1);
    } else {
        word_wait(&team->phase, phase, team->spins, idle, context);
    }
}

static void *worker_main(void *argument)
{
    struct worker *worker = argument;
    mlxn_cpu_team *team = worker->team;
    for (unsigned seen = 0;; seen++) {
        word_wait(&team->job_number, seen, team->spins, do_nothing, NULL);
        if (!team->job)
            return NULL;
        team->job(team->context, worker->thread);
        mlxn_cpu_team_barrier(team, do_nothing, NULL);
    }
}

void mlxn_cpu_team_run(mlxn_cpu_team *team, mlxn_cpu_job job, void *context)
{
    if (team->n > 1) {
        team->job = job;
        team->context = context;
        word_set(&team->job_number, atomic_load(&team->job_number.value) + 1);
    }
    job(context, 0);
    mlxn_cpu_team_barrier(team, do_nothing, NULL);
}

void mlxn_cpu_team_free(mlxn_cpu_team *team)
{
    if (!team)
        return;
    team->job = NULL;
    word_set(&team->job_number, atomic_load(&team->job_number.value) + 1);
    for (uint32_t i = 0; i < team->started; i++)
        pthread_join(team->workers[i].id, NULL);
    word_fini(&team->job_number);
    word_fini(&team->phase);
    free(team);
}

mlxn_status mlxn_cpu_team_create(uint32_t n, mlxn_cpu_team **out)
{
    size_t bytes = sizeof(mlxn_cpu_team) + (n - 1) * sizeof(struct worker);
    mlxn_cpu_team *team = aligned_alloc(128, (bytes + 127) & ~(size_t)127);
    if (!team)
        return mlxn_fail(MLXN_ERR_MEMORY, "device_open: no memory for %u threads", n);
    memset(team, 0, bytes);
    word_init(&team->job_number);
    word_init(&team->phase);
    team->n = n;
    team->spins = n > mlxn_cpu_available() ? 0 : SPINS;
    while (team->started < n - 1) {
        struct worker *worker = &team->workers[team->started];
        worker->team = team;
        worker->thread = team->started + 1;
        int error = pthread_create(&worker->id, NULL, worker_main, worker);
        if (error) {
            mlxn_status status =
                mlxn_fail(MLXN_ERR_MEMORY, "device_open: cannot start thread %u of %u: %s",
                          worker->thread + 1, n, strerror(error));
            mlxn_cpu_team_free(team);
            return status;
        }
        team->started++;
    }
    *out = team;
    return MLXN_OK;
}
