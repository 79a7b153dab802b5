#include <mlxn/mlxn.h>
#include <stdio.h>

int main(void)
{
    const int64_t shape[] = {2, 4};
    float rows[2][4] = {{1, 2, 3, 4}, {-1, 0, 1, 0}};
    mlxn_device *device = NULL;
    mlxn_encoder *encoder = NULL;
    mlxn_rms_norm_args norm = {.size = sizeof norm, .eps = 1e-6f};

    int failed = mlxn_device_open(NULL, 0, &device) || /* the best there is */
                 mlxn_buffer_create(device, MLXN_F32, 2, shape, &norm.input) ||
                 mlxn_buffer_create(device, MLXN_F32, 2, shape, &norm.output) ||
                 mlxn_buffer_write(norm.input, 0, rows, sizeof rows) ||
                 mlxn_encoder_create(device, &encoder) ||
                 mlxn_rms_norm(encoder, &norm) || /* checked and recorded */
                 mlxn_encoder_commit(encoder) ||  /* queued; never blocks */
                 mlxn_encoder_wait(encoder) || mlxn_buffer_read(norm.output, 0, rows, sizeof rows);
    if (failed)
        fprintf(stderr, "%s\n", mlxn_last_error());
    for (int i = 0; i < 2 && !failed; i++)
        printf("%.5f %.5f %.5f %.5f\n", rows[i][0], rows[i][1], rows[i][2], rows[i][3]);

    mlxn_encoder_release(encoder);
    mlxn_buffer_release(norm.output);
    mlxn_buffer_release(norm.input);
    mlxn_device_release(device);
    return failed;
}
