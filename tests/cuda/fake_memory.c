/* fake_memory.c - device and pinned memory of the fake driver, with a list of what is live. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "fake_driver.h"

/* Device addresses are host addresses moved up here, where no host memory can be. */
#define DEVICE_BASE 0x1000000000000000u

enum { ALIGN = 256, POISON = 0xa5 };

typedef struct block {
    unsigned char *host;
    size_t bytes;
    int pinned;
    unsigned long mark;
    struct block *next;
} block;
static block *blocks;

fake_control fake = {.devices = 1, .architecture = 90, .driver_version = 12080, .pools = 1};
long fake_live[FAKE_KINDS];

fake_control *fake_get_control(void)
{
    return &fake;
}

void fake_find(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (!fake.findings++)
        vsnprintf(fake.finding, sizeof fake.finding, format, args);
    va_end(args);
}

long fake_alive(char *what, size_t size)
{
    static const char *const names[] = {"memory",  "pinned memory", "streams",     "events",
                                        "modules", "graphs",        "executables", "contexts"};
    long sum = 0;
    what[0] = 0;
    for (int i = 0; i < FAKE_KINDS; i++) {
        size_t at = strlen(what);
        if (fake_live[i])
            snprintf(what + at, size - at, "%s%ld %s", at ? ", " : "", fake_live[i], names[i]);
        sum += fake_live[i];
    }
    return sum;
}

static unsigned char *take(size_t bytes, int pinned)
{
    block *b = malloc(sizeof *b);
    unsigned char *host =
        bytes > SIZE_MAX / 2 ? NULL : aligned_alloc(ALIGN, (bytes + ALIGN - 1) / ALIGN * ALIGN);
    if (!b || !host) {
        free(b);
        free(host);
        return NULL;
    }
    memset(host, POISON, bytes);
    *b = (block){host, bytes, pinned, 0, blocks};
    blocks = b;
    fake_live[pinned ? FAKE_PINNED : FAKE_MEMORY]++;
    return host;
}

static int give(const unsigned char *host, int pinned)
{
    for (block **at = &blocks; *at; at = &(*at)->next) {
        block *b = *at;
        if (b->host != host || b->pinned != pinned)
            continue;
        *at = b->next;
        memset(b->host, POISON, b->bytes);
        free(b->host);
        free(b);
        fake_live[pinned ? FAKE_PINNED : FAKE_MEMORY]--;
        return 1;
    }
    return 0;
}

static unsigned char *host_of(unsigned long long address)
{
    return (unsigned char *)(uintptr_t)(address - DEVICE_BASE);
}

unsigned long long fake_memory_take(size_t bytes)
{
    const unsigned char *host = take(bytes, 0);
    return host ? (uintptr_t)host + DEVICE_BASE : 0;
}

int fake_memory_give(unsigned long long address)
{
    return give(host_of(address), 0);
}

void *fake_pinned_take(size_t bytes)
{
    return take(bytes, 1);
}

int fake_pinned_give(void *memory)
{
    return give(memory, 1);
}

static block *find(const unsigned char *host, size_t bytes)
{
    for (block *b = blocks; b; b = b->next)
        if (host >= b->host && host < b->host + b->bytes &&
            bytes <= b->bytes - (size_t)(host - b->host))
            return b;
    return NULL;
}

unsigned char *fake_memory_at(unsigned long long address, size_t bytes, size_t *room)
{
    unsigned char *host = host_of(address);
    const block *b = find(host, bytes);
    if (b && room)
        *room = b->bytes - (size_t)(host - b->host);
    return b ? host : NULL;
}

void fake_memory_mark(unsigned long long address, unsigned long mark)
{
    block *b = address ? find(host_of(address), 1) : NULL;
    if (b)
        b->mark = mark;
}

unsigned long fake_memory_marked(unsigned long long address)
{
    const block *b = address ? find(host_of(address), 1) : NULL;
    return b ? b->mark : 0;
}

int fake_is_pinned(const void *memory, size_t bytes)
{
    const block *b = find(memory, bytes);
    return b && b->pinned;
}

unsigned long long fake_pinned_address(const void *memory)
{
    return (uintptr_t)memory + DEVICE_BASE;
}
