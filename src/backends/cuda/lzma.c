/* lzma.c - see lzma.h.
 *
 * A file is a head of 13 bytes and one range-coded stream of bits, each with a probability that
 * adapts.  They say in turn: a literal byte, or a copy of `length` bytes from `distance` back,
 * where the distance is new or one of the last four.  `state` tells the kinds of the last few of
 * these and chooses among the probabilities. */
#include "backends/cuda/lzma.h"

#include <stdint.h>
#include <stdlib.h>

enum {
    HEAD_BYTES = 13,
    PROPERTIES = 3, /* (5 pb + lp) 9 + lc */
    LITERAL_CONTEXT = 3,
    STATES = 12,
    AFTER_LITERAL = 7, /* states below follow a literal */
    MIN_LENGTH = 2,
    END_MARKER = -1,         /* as a distance */
    MAX_BYTES = 64 << 20,    /* of contents: no text has as many */
    PROBABILITY_HALF = 1024, /* of 2048 */
};

typedef uint16_t model; /* probability that a bit is 0 */

typedef struct length_models {
    model above_low, above_mid, low[8], mid[8], high[256];
} length_models;

typedef struct models {
    model is_match[STATES], is_repeat[STATES], not_last[STATES], is_long[STATES];
    model not_second[STATES], not_third[STATES];
    model slot[4][64], near[114], align[16];
    length_models match, repeat;
    model literal[1 << LITERAL_CONTEXT][0x300];
} models;

typedef struct decoder {
    const unsigned char *at, *end;
    uint32_t range, code;
    unsigned char *out;
    size_t size, capacity;
    unsigned state;
    uint32_t last[4]; /* distances less 1, the latest first */
    int failed;
    models m;
} decoder;

/* ---- bits ---- */

static void shift_in(decoder *d)
{
    if (d->range >> 24)
        return;
    d->failed |= d->at == d->end;
    d->range <<= 8;
    d->code = d->code << 8 | (d->at < d->end ? *d->at++ : 0u);
}

static unsigned get_bit(decoder *d, model *zero)
{
    const uint32_t bound = (d->range >> 11) * *zero;
    const unsigned bit = d->code >= bound;
    if (bit) {
        d->code -= bound;
        d->range -= bound;
        *zero = (model)(*zero - (*zero >> 5));
    } else {
        d->range = bound;
        *zero = (model)(*zero + ((2048 - *zero) >> 5));
    }
    shift_in(d);
    return bit;
}

static uint32_t get_even_bits(decoder *d, int n)
{
    uint32_t value = 0;
    for (; n > 0; n--) {
        d->range >>= 1;
        const uint32_t bit = d->code >= d->range;
        d->code -= bit ? d->range : 0;
        value = value << 1 | bit;
        shift_in(d);
    }
    return value;
}

/* n bits, highest first; each prefix has a model of its own. */
static unsigned get_tree(decoder *d, model *tree, int n)
{
    unsigned node = 1;
    for (int i = 0; i < n; i++)
        node = node << 1 | get_bit(d, &tree[node]);
    return node - (1u << n);
}

/* The same, lowest first; tree[0] belongs to the root. */
static unsigned get_tree_backwards(decoder *d, model *tree, int n)
{
    unsigned node = 1, value = 0;
    for (int i = 0; i < n; i++) {
        const unsigned bit = get_bit(d, &tree[node - 1]);
        node = node << 1 | bit;
        value |= bit << i;
    }
    return value;
}

/* ---- literals and copies ---- */

static void put(decoder *d, unsigned byte)
{
    if (d->size == d->capacity) {
        const size_t capacity = d->capacity ? 2 * d->capacity : 1 << 16;
        unsigned char *out = capacity <= MAX_BYTES ? realloc(d->out, capacity) : NULL;
        if (!out) {
            d->failed = 1;
            return;
        }
        d->out = out;
        d->capacity = capacity;
    }
    d->out[d->size++] = (unsigned char)byte;
}

static unsigned byte_back(const decoder *d, uint32_t distance)
{
    return distance < d->size ? d->out[d->size - 1 - distance] : 0;
}

static void get_literal(decoder *d)
{
    model *m = d->m.literal[byte_back(d, 0) >> (8 - LITERAL_CONTEXT)];
    unsigned symbol = 1;
    if (d->state >= AFTER_LITERAL) { /* it is no byte that the last copy could have gone on with */
        unsigned expected = byte_back(d, d->last[0]), bit, same = 1;
        while (symbol < 0x100 && same) {
            const unsigned want = expected >> 7 & 1;
            expected <<= 1;
            bit = get_bit(d, &m[((1 + want) << 8) + symbol]);
            symbol = symbol << 1 | bit;
            same = bit == want;
        }
    }
    while (symbol < 0x100)
        symbol = symbol << 1 | get_bit(d, &m[symbol]);
    put(d, symbol & 0xff);
    d->state -= d->state < 4 ? d->state : d->state < 10 ? 3 : 6;
}

static uint32_t get_length(decoder *d, length_models *m)
{
    if (!get_bit(d, &m->above_low))
        return MIN_LENGTH + get_tree(d, m->low, 3);
    if (!get_bit(d, &m->above_mid))
        return MIN_LENGTH + 8 + get_tree(d, m->mid, 3);
    return MIN_LENGTH + 16 + get_tree(d, m->high, 8);
}

/* Less 1. */
static uint32_t get_distance(decoder *d, uint32_t length)
{
    const unsigned of_length = length - MIN_LENGTH < 3 ? length - MIN_LENGTH : 3;
    const unsigned slot = get_tree(d, d->m.slot[of_length], 6);
    if (slot < 4)
        return slot;
    const int bits = (int)(slot >> 1) - 1;
    const uint32_t start = (2 | (slot & 1)) << bits;
    if (slot < 14)
        return start + get_tree_backwards(d, &d->m.near[start - slot], bits);
    const uint32_t high = get_even_bits(d, bits - 4) << 4;
    return start + high + get_tree_backwards(d, d->m.align, 4);
}

static void copy(decoder *d, uint32_t length)
{
    d->failed |= d->last[0] >= d->size;
    for (; length > 0 && !d->failed; length--)
        put(d, byte_back(d, d->last[0]));
}

/* A copy from one of the last four distances, which becomes the latest. */
static void get_repeat(decoder *d)
{
    int which = 0;
    if (!get_bit(d, &d->m.not_last[d->state])) {
        if (!get_bit(d, &d->m.is_long[d->state])) {
            d->state = d->state < AFTER_LITERAL ? 9 : 11;
            copy(d, 1);
            return;
        }
    } else {
        which = !get_bit(d, &d->m.not_second[d->state])  ? 1
                : !get_bit(d, &d->m.not_third[d->state]) ? 2
                                                         : 3;
    }
    const uint32_t distance = d->last[which];
    for (; which > 0; which--)
        d->last[which] = d->last[which - 1];
    d->last[0] = distance;
    const uint32_t length = get_length(d, &d->m.repeat);
    d->state = d->state < AFTER_LITERAL ? 8 : 11;
    copy(d, length);
}

/* Whether it was a copy, and not the end. */
static int get_match(decoder *d)
{
    for (int i = 3; i > 0; i--)
        d->last[i] = d->last[i - 1];
    const uint32_t length = get_length(d, &d->m.match);
    d->state = d->state < AFTER_LITERAL ? 7 : 10;
    d->last[0] = get_distance(d, length);
    if (d->last[0] == (uint32_t)END_MARKER)
        return 0;
    copy(d, length);
    return 1;
}

static void decode(decoder *d)
{
    while (!d->failed) {
        if (!get_bit(d, &d->m.is_match[d->state]))
            get_literal(d);
        else if (get_bit(d, &d->m.is_repeat[d->state]))
            get_repeat(d);
        else if (!get_match(d))
            break;
    }
    d->failed |= d->code != 0 || d->at != d->end; /* what ends well ends so */
    put(d, 0);
}

char *mlxn_lzma_decode(const unsigned char *file, size_t file_bytes, size_t *bytes)
{
    if (file_bytes < HEAD_BYTES + 5 || file[0] != PROPERTIES || file[HEAD_BYTES])
        return NULL;
    decoder *d = calloc(1, sizeof *d);
    if (!d)
        return NULL;
    model *m = (model *)&d->m;
    for (size_t i = 0; i < sizeof d->m / sizeof *m; i++)
        m[i] = PROBABILITY_HALF;
    d->at = file + HEAD_BYTES + 1;
    d->end = file + file_bytes;
    d->range = UINT32_MAX;
    for (int i = 0; i < 4; i++)
        d->code = d->code << 8 | *d->at++;
    decode(d);
    char *out = (char *)d->out;
    *bytes = d->size ? d->size - 1 : 0;
    if (d->failed) {
        free(out);
        out = NULL;
    }
    free(d);
    return out;
}
