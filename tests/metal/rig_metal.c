/* rig_metal.c - the devices of the operators' tests are the Metal device, opened as a user does:
 * in this program the simulator's, with checked kernel text.  At the end every object of the
 * simulator must be gone, or the program fails. */
#include "rig_metal.h"
#include <unistd.h>

/* AddressSanitizer watches plain pointers, which only unchecked text has. */
#if defined(__SANITIZE_ADDRESS__)
#define PLAIN_POINTERS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define PLAIN_POINTERS 1
#endif
#endif
#if !defined(PLAIN_POINTERS)
#define PLAIN_POINTERS 0
#endif

static rig_device devices[2]; /* tests run on the first; the second is for mixing them up */

const rig_device *metal_devices(int *count)
{
    for (int i = 0; i < 2 && !devices[i].device; i++) {
        devices[i] = (rig_device){.path = "metal", .threads = 1, .slow = 1};
        CHECK_STATUS(mlxn_device_open("metal", 0, &devices[i].device), MLXN_OK);
        CHECK_STATUS(mlxn_encoder_create(devices[i].device, &devices[i].encoder), MLXN_OK);
    }
    *count = devices[1].encoder != NULL;
    return devices;
}

static void close_devices(void)
{
    char list[400];
    for (int i = 0; i < 2; i++) {
        mlxn_encoder_release(devices[i].encoder);
        mlxn_device_release(devices[i].device);
    }
    const long live = metalsim_live(list, sizeof list);
    if (live) {
        printf("objects of the simulator that nobody released: %s\n", list);
        fflush(stdout);
        _exit(1);
    }
    printf("%ld objects made, none live at the end\n", metalsim_count.objects);
}

__attribute__((constructor)) static void use_metal(void)
{
    metalsim.checked = !PLAIN_POINTERS;
    setenv("MLXN_METAL_LIBRARY", MLXN_METALSIM, 1);
    setenv("MLXN_KERNEL_CACHE", "off", 0); /* tests of the cache name a folder */
    rig_source = metal_devices;
    atexit(close_devices);
}
