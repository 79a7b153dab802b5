/* device.c - see device.h.  Commits run at once, in the thread that commits. */
#include "device.h"
#include "test.h"
#include "ops/kernels.h"

static void emu_close(mlxn_device *device)
{
    mlxn_device_fini(device);
    free(device);
}

static mlxn_status emu_alloc(mlxn_device *device, mlxn_storage *storage, int zero)
{
    (void)device;
    size_t bytes = (storage->bytes + 255) / 256 * 256;
    storage->host = aligned_alloc(256, bytes ? bytes : 256);
    if (!storage->host)
        return mlxn_fail(MLXN_ERR_MEMORY, "no memory");
    if (zero)
        memset(storage->host, 0, bytes);
    storage->address = (uintptr_t)storage->host;
    return MLXN_OK;
}

static void emu_free(mlxn_device *device, mlxn_storage *storage)
{
    (void)device;
    free(storage->host);
}

static mlxn_status emu_write(mlxn_device *device, mlxn_storage *storage, size_t offset,
                             const void *src, size_t bytes)
{
    (void)device;
    if (bytes)
        memcpy((char *)storage->host + offset, src, bytes);
    return MLXN_OK;
}

static mlxn_status emu_read(mlxn_device *device, mlxn_storage *storage, size_t offset, void *dst,
                            size_t bytes)
{
    (void)device;
    if (bytes)
        memcpy(dst, (const char *)storage->host + offset, bytes);
    return MLXN_OK;
}

static mlxn_status emu_build(mlxn_device *device, mlxn_kernel *kernel)
{
    (void)device;
    if (strcmp(kernel->source.name, "qkv_prepare") && strcmp(kernel->source.name, "rms_norm"))
        return mlxn_fail(MLXN_ERR_UNSUPPORTED, "%s has no kernel text", kernel->source.name);
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
static emu_buffer buffer_of(const mlxn_bound *b)
{
    emu_buffer y = {NULL, 0};
    if (!b->storage)
        return y;
    y.data = (char *)b->storage->host + b->offset;
    y.bytes = b->range.rows ? (size_t)(b->range.pitch * (b->range.rows - 1) + b->range.row_bytes)
                            : (size_t)b->range.row_bytes;
    return y;
}

static void run_node(emu_device *d, const mlxn_node *node, mlxn_commit *commit)
{
    enum { FAULT = QKV_OPERANDS, ARGS, BUFFERS };
    emu_buffer buffers[BUFFERS];
    int operand[QKV_OPERANDS];
    uint64_t addresses[QKV_OPERANDS];
    qkv_params params;
    uint32_t fault = 0;
    emu_report report;
    if (!strcmp(node->kernel->source.name, "rms_norm")) {
        mlxn_qkv_from_norm(node->args, node->operands[RMS_NORM_WEIGHT].storage != NULL, &params,
                           operand);
    } else {
        memcpy(&params, node->args, sizeof params);
        for (int i = 0; i < QKV_OPERANDS; i++)
            operand[i] = i;
    }
    for (int i = 0; i < QKV_OPERANDS; i++) {
        buffers[i] =
            operand[i] < 0 ? (emu_buffer){NULL, 0} : buffer_of(&node->operands[operand[i]]);
        addresses[i] = (uintptr_t)buffers[i].data;
    }
    buffers[FAULT] = (emu_buffer){&fault, sizeof fault};
    buffers[ARGS] = (emu_buffer){&params, sizeof params};
    qkv_plan plan = mlxn_qkv_plan(&params, addresses, d->schedule, d->threads);
    for (int i = 0; i < 2; i++)
        if (d->groups && plan.grid.groups[i] > d->groups)
            plan.grid.groups[i] = d->groups;
    emu_launch launch = {.kernel = plan.entry,
                         .buffers = buffers,
                         .n_buffers = BUFFERS,
                         .groups = {plan.grid.groups[0], plan.grid.groups[1], plan.grid.groups[2]},
                         .threads = plan.grid.threads,
                         .seed = d->seed,
                         .workers = d->workers};
    long findings = emu_dispatch(d->library, &launch, &report);
    d->dispatches++;
    d->rows_dispatches += plan.schedule == QKV_SCHEDULE_ROWS;
    if (findings) {
        d->findings += findings < 0 ? 1 : findings;
        d->report = report;
        if (!d->quiet)
            test_failed(__FILE__, __LINE__, "%ld findings: %s", findings, report.first);
    }
    if (fault && commit->status == MLXN_OK) {
        commit->status = MLXN_ERR_FAULT;
        snprintf(commit->detail, sizeof commit->detail, "%s out of range",
                 fault & 1 ? "position" : "slot");
    }
}

static mlxn_status emu_submit(mlxn_device *device, mlxn_commit *commit)
{
    emu_device *d = (emu_device *)device;
    for (const mlxn_node *n = commit->work->first; n; n = n->next)
        run_node(d, n, commit);
    if (d->quiet) {
        d->findings += commit->status != d->want;
        commit->status = MLXN_OK;
    }
    if (commit->status != MLXN_OK)
        mlxn_device_note_failure(device, commit);
    return MLXN_OK;
}

emu_device *emu_device_open(const emu_library *library)
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
    d->library = library;
    d->workers = 1;
    return d;
}
