#include <mlxn/mlxn.h>
#include <stdio.h>

/* A kernel of the user's own, y[i] = a * x[i] + y[i].  Every thread of the team calls it once. */
static void saxpy(const mlxn_cpu_call *call)
{
    const float *x = call->ptr[0], a = *(const float *)call->args;
    float *y = call->ptr[1];
    for (size_t i = call->thread; i < 8; i += call->n_threads)
        y[i] = a * x[i] + y[i];
}

int main(void)
{
    const int64_t n = 8;
    float x[8] = {1, 2, 3, 4, 5, 6, 7, 8}, y[8] = {10, 10, 10, 10, 20, 20, 20, 20}, a = 2;
    mlxn_device *device = NULL;
    mlxn_encoder *encoder = NULL;
    mlxn_operand operands[2] = {{.access = MLXN_READ}, {.access = MLXN_READ_WRITE}};
    mlxn_kernel_desc kernel = {.size = sizeof kernel, .name = "saxpy", .cpu = saxpy};
    mlxn_dispatch_args dispatch = {.size = sizeof dispatch,
                                   .kernel = "saxpy",
                                   .operands = operands,
                                   .n_operands = 2,
                                   .args = &a,
                                   .args_bytes = sizeof a};

    int failed = mlxn_device_open("cpu", 0, &device) || mlxn_kernel_register(device, &kernel) ||
                 mlxn_buffer_create(device, MLXN_F32, 1, &n, &operands[0].buffer) ||
                 mlxn_buffer_create(device, MLXN_F32, 1, &n, &operands[1].buffer) ||
                 mlxn_buffer_write(operands[0].buffer, 0, x, sizeof x) ||
                 mlxn_buffer_write(operands[1].buffer, 0, y, sizeof y) ||
                 mlxn_encoder_create(device, &encoder) || mlxn_dispatch(encoder, &dispatch) ||
                 mlxn_encoder_commit(encoder) || mlxn_encoder_wait(encoder) ||
                 mlxn_buffer_read(operands[1].buffer, 0, y, sizeof y);
    if (failed)
        fprintf(stderr, "%s\n", mlxn_last_error());
    for (int i = 0; i < 8 && !failed; i++)
        printf("%g%c", (double)y[i], i == 7 ? '\n' : ' ');

    mlxn_encoder_release(encoder);
    mlxn_buffer_release(operands[1].buffer);
    mlxn_buffer_release(operands[0].buffer);
    mlxn_device_release(device);
    return failed;
}
