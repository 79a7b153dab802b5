/* device.c - see device.h.  Commits run at once, in the thread that commits.  The host has no
 * addresses in the device's memory (storage->host is NULL), as on a GPU of its own memory. */
#include "device.h"
#include "test.h"
#include "ops/kernels.h"

/* ---- compiled texts ---- */

const emu_library *emu_text(const char *text, int checked)
{
    static struct {
        const char *text;
        int checked;
        const emu_library *library;
    } known[64];
    static int count;
    char log[4096];
    for (int i = 0; i < count; i++)
        if (known[i].text == text && known[i].checked == checked)
            return known[i].library;
    const emu_library *library = emu_compile(text, checked, log, sizeof log);
    if (!library || count == 64) {
        test_failed(__FILE__, __LINE__, "%s", library ? "too many texts" : log);
        return NULL;
    }
    known[count].text = text;
    known[count].checked = checked;
    known[count++].library = library;
    return library;
}

/* ---- memory ---- */

static void emu_close(mlxn_device *device)
{
    emu_device *d = (emu_device *)device;
    free(d->scratch);
    free(d->faults);
    mlxn_device_fini(device);
    free(device);
}

static mlxn_status emu_alloc(mlxn_device *device, mlxn_storage *storage, int zero)
{
    (void)device;
    size_t bytes = (storage->bytes + 255) / 256 * 256;
    storage->backend = aligned_alloc(256, bytes ? bytes : 256);
    if (!storage->backend)
        return mlxn_fail(MLXN_ERR_MEMORY, "no memory");
    if (zero)
        memset(storage->backend, 0, bytes);
    storage->address = (uintptr_t)storage->backend;
    return MLXN_OK;
}

static void emu_free(mlxn_device *device, mlxn_storage *storage)
{
    (void)device;
    free(storage->backend);
}

static mlxn_status emu_write(mlxn_device *device, mlxn_storage *storage, size_t offset,
                             const void *src, size_t bytes)
{
    (void)device;
    if (bytes)
        memcpy((char *)storage->backend + offset, src, bytes);
    return MLXN_OK;
}

static mlxn_status emu_read(mlxn_device *device, mlxn_storage *storage, size_t offset, void *dst,
                            size_t bytes)
{
    (void)device;
    if (bytes)
        memcpy(dst, (const char *)storage->backend + offset, bytes);
    return MLXN_OK;
}

/* ---- kernels ---- */

static mlxn_status emu_build(mlxn_device *device, mlxn_kernel *kernel)
{
    (void)device;
    (void)kernel; /* a text is compiled when it is first launched */
    return MLXN_OK;
}

static void emu_unbuild(mlxn_device *device, mlxn_kernel *kernel)
{
    (void)device;
    (void)kernel;
}

static mlxn_status emu_get_info(const mlxn_device *device, mlxn_device_info *info)
{
    (void)device;
    info->name = "emulator";
    info->path = "kernel text";
    info->threads = 1;
    return MLXN_OK;
}

static void emu_wait(mlxn_device *device, uint64_t serial, int *waited)
{
    (void)device;
    (void)serial;
    *waited = 0;
}

/* The view that an operand is, without what lies around it. */
static emu_buffer view_of(const mlxn_bound *b, size_t offset)
{
    emu_buffer y = {NULL, 0};
    if (!b->storage)
        return y;
    y.data = (char *)b->storage->backend + b->offset + offset;
    y.bytes = b->range.rows ? (size_t)(b->range.pitch * (b->range.rows - 1) + b->range.row_bytes)
                            : (size_t)b->range.row_bytes;
    y.bytes = y.bytes > offset ? y.bytes - offset : 0;
    return y;
}

static emu_buffer buffer_of(emu_device *d, const mlxn_node *node, int operand, size_t offset)
{
    switch (operand) {
    case MLXN_GPU_NONE:
        return (emu_buffer){NULL, 0};
    case MLXN_GPU_FAULT:
        return (emu_buffer){&d->faults[node->kernel - d->base.builtin], sizeof *d->faults};
    case MLXN_GPU_SCRATCH:
        return (emu_buffer){(char *)d->scratch + node->shared_offset + offset,
                            node->shared_bytes - offset};
    default:
        return view_of(&node->operands[operand], offset);
    }
}

/* Whether a dispatch of this work before `end` writes any of what an operand reads. */
static int is_written(const mlxn_work *work, const mlxn_node *end, const mlxn_bound *bound)
{
    for (const mlxn_node *n = work->first; n != end; n = n->next) {
        if (n->graph && is_written(&n->graph->work, NULL, bound))
            return 1;
        for (int i = 0; i < n->n_operands; i++)
            if (n->operands[i].storage && n->operands[i].access & MLXN_WRITE &&
                mlxn_ranges_overlap(&n->operands[i].range, &bound->range))
                return 1;
    }
    return 0;
}

/* The parameters of a launch that it must not read before k_wait(). */
static uint32_t unsettled(const emu_device *d, const mlxn_node *node, const mlxn_gpu_launch *launch)
{
    uint32_t mask = 0;
    for (int i = 0; i < launch->n_parameters; i++) {
        const int operand = launch->operand[i];
        if (operand == MLXN_GPU_SCRATCH || operand == MLXN_GPU_FAULT ||
            (operand >= 0 && node->operands[operand].storage &&
             is_written(d->work, node, &node->operands[operand])))
            mask |= 1u << i;
    }
    return mask;
}

static void run_launch(emu_device *d, const mlxn_node *node, const mlxn_gpu_launch *launch)
{
    emu_buffer buffers[MLXN_GPU_PARAMETERS + 1];
    unsigned char args[MLXN_GPU_ARGS_BYTES];
    int n = launch->n_parameters;
    emu_report report;
    for (int i = 0; i < n; i++)
        buffers[i] = buffer_of(d, node, launch->operand[i], launch->offset[i]);
    if (launch->args_bytes) {
        memcpy(args, launch->args, launch->args_bytes);
        buffers[n++] = (emu_buffer){args, launch->args_bytes};
    }
    emu_launch l = {.kernel = launch->entry,
                    .buffers = buffers,
                    .n_buffers = n,
                    .groups = {launch->groups[0], launch->groups[1], launch->groups[2]},
                    .threads = launch->threads,
                    .seed = d->seed,
                    .workers = d->workers,
                    .constants = launch->constants.at,
                    .n_constants = d->general ? 0 : launch->constants.n,
                    .early = launch->early,
                    .unsettled = launch->early && d->checked ? unsettled(d, node, launch) : 0};
    const int strides = !d->whole_grid || !strstr(launch->entry, d->whole_grid);
    for (int i = 0; strides && i < 2; i++)
        if (d->groups[i] && l.groups[i] > d->groups[i])
            l.groups[i] = d->groups[i];
    const emu_library *library =
        launch->text == d->text ? d->library : emu_text(launch->text, d->checked);
    long findings = library ? emu_dispatch(library, &l, &report) : 0;
    d->launches++;
    d->watched += d->watch && strstr(launch->entry, d->watch);
    if (findings) {
        d->findings += findings < 0 ? 1 : findings;
        d->report = report;
        if (!d->quiet)
            test_failed(__FILE__, __LINE__, "%s: %ld findings: %s", launch->entry, findings,
                        findings < 0 ? "no such kernel, or another number of parameters"
                                     : report.first);
    }
}

static void run_work(emu_device *d, const mlxn_work *work)
{
    for (const mlxn_node *n = work->first; n; n = n->next) {
        d->work = work;
        if (n->graph)
            run_work(d, &n->graph->work);
        else
            for (int i = 0; i < n->plan->n_launches; i++)
                run_launch(d, n, &n->plan->launches[i]);
    }
}

/* The first fault that is set becomes the commit's failure. */
static void take_faults(emu_device *d, mlxn_commit *commit)
{
    for (int i = 0; i < mlxn_builtin_kernel_count; i++) {
        uint32_t bits = d->faults[i];
        d->faults[i] = 0;
        if (!bits || commit->status != MLXN_OK)
            continue;
        const mlxn_kernel_source *source = &mlxn_builtin_kernels[i];
        commit->status = MLXN_ERR_FAULT;
        snprintf(commit->detail, sizeof commit->detail, "%s: %s is out of range", source->name,
                 source->gpu_faults[__builtin_ctz(bits)]);
    }
}

static mlxn_status emu_submit(mlxn_device *device, mlxn_commit *commit)
{
    emu_device *d = (emu_device *)device;
    if (commit->work->shared_max > d->scratch_bytes) {
        free(d->scratch);
        d->scratch_bytes = commit->work->shared_max;
        d->scratch = aligned_alloc(256, d->scratch_bytes);
        if (!d->scratch)
            return mlxn_fail(MLXN_ERR_MEMORY, "no memory for scratch");
    }
    if (d->scratch_bytes)
        memset(d->scratch, 0xff, d->scratch_bytes); /* NaN */
    run_work(d, commit->work);
    take_faults(d, commit);
    if (d->quiet) {
        d->findings += commit->status != d->want;
        commit->status = MLXN_OK;
    }
    if (commit->status != MLXN_OK)
        mlxn_device_note_failure(device, commit);
    return MLXN_OK;
}

emu_device *emu_device_open(int checked)
{
    static const mlxn_device_ops ops = {.close = emu_close,
                                        .alloc = emu_alloc,
                                        .free = emu_free,
                                        .write = emu_write,
                                        .read = emu_read,
                                        .build = emu_build,
                                        .unbuild = emu_unbuild,
                                        .submit = emu_submit,
                                        .wait = emu_wait,
                                        .get_info = emu_get_info};
    emu_device *d = calloc(1, sizeof *d);
    if (!d || mlxn_device_init(&d->base, "emulator", &ops) != MLXN_OK) {
        free(d);
        return NULL;
    }
    d->faults = calloc((size_t)mlxn_builtin_kernel_count, sizeof *d->faults);
    d->traits.processors = 4;
    d->base.gpu = &d->traits;
    d->checked = checked;
    d->workers = 1;
    d->whole_grid = "_units_"; /* of qkv_prepare */
    return d;
}

/* ---- the operators' tests ---- */

const rig_device *emu_devices(int *count)
{
    static const struct {
        const char *path;
        int checked, workers;
        uint32_t threads, processors;
        uint64_t seed;
        int general;
    } kinds[] = {{"checked text", 1, 1, 64, 8, 1, 0},
                 {"text", 0, 1, 0, 132, 0, 0},
                 {"general text, 32 threads", 0, 2, 32, 4, 2, 1},
                 {"text, 256 threads", 0, 1, 256, 1, 3, 0}};
    enum { KINDS = sizeof kinds / sizeof *kinds };
    static rig_device devices[KINDS];
    for (int i = 0; i < KINDS && !devices[i].device; i++) {
        emu_device *d = emu_device_open(kinds[i].checked);
        d->traits.threads_wanted = kinds[i].threads;
        d->traits.processors = kinds[i].processors;
        d->workers = kinds[i].workers;
        d->seed = kinds[i].seed;
        d->general = kinds[i].general;
        devices[i] =
            (rig_device){.device = &d->base, .path = kinds[i].path, .threads = 1, .slow = 1};
        CHECK_STATUS(mlxn_encoder_create(&d->base, &devices[i].encoder), MLXN_OK);
    }
    *count = KINDS;
    return devices;
}

__attribute__((constructor)) static void use_emulator(void)
{
    rig_source = emu_devices;
}
