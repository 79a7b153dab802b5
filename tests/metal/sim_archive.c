/* sim_archive.c - simulated binary archives, and of Foundation what they need: NSURL of a file,
 * NSArray of one object.
 *
 * As Apple documents them: an archive without a URL is empty; a URL whose file is no archive is an
 * error; pipelines that are added are compiled then, one that is there already is accepted; a
 * pipeline is looked up by its whole descriptor.  A file is text, a line a pipeline and the hash of
 * them, so that damage is an error too. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "sim.h"

enum { ERROR_INVALID_FILE = 1, ERROR_COMPILATION = 3, ERROR_ARCHIVE = 4 };

/* ---- NSURL, NSArray ---- */

typedef struct holder { /* of a path, of an object */
    struct object object;
    id held;
} holder;

static void holder_destroy(id self)
{
    sim_release(((holder *)self)->held);
}
static id hold(class *of, id held)
{
    holder *h = sim_new(of, sizeof *h);
    h->held = sim_retain(held);
    return sim_autorelease(&h->object);
}
static id url_of_path(class *self, SEL command, id path)
{
    return hold(self, sim_is(path, &NSString_class, command));
}
NO_METHODS(NSURL_methods);
static const method NSURL_own[] = {METHOD("fileURLWithPath:", "@@:@", url_of_path)};
CLASS(NSURL, &NSObject_class, 0, holder_destroy, 0)

static id array_of_object(class *self, SEL command, id object)
{
    if (!object)
        sim_misuse("[NSArray %s]: nil", command);
    return hold(self, object);
}
NO_METHODS(NSArray_methods);
static const method NSArray_own[] = {METHOD("arrayWithObject:", "@@:@", array_of_object)};
CLASS(NSArray, &NSObject_class, 0, holder_destroy, 0)

static const char *path_of(id url, SEL command)
{
    return sim_text(((holder *)sim_is(url, &NSURL_class, command))->held);
}

/* ---- archives ---- */

enum { MAX_ENTRIES = 256, NAME_BYTES = 64 };
typedef struct entry {
    uint64_t code; /* hash of the text and constants */
    NSUInteger threads;
    char name[NAME_BYTES];
} entry;
typedef struct archive {
    struct object object;
    entry entries[MAX_ENTRIES];
    int n;
} archive;

static const char HEAD[] = "metalsim archive";

static uint64_t hash_of(const archive *a)
{
    uint64_t hash = 0;
    for (int i = 0; i < a->n; i++)
        hash = sim_hash(hash ^ a->entries[i].code ^ a->entries[i].threads, a->entries[i].name);
    return hash;
}

static int archive_read(archive *a, FILE *file)
{
    unsigned long long of, hash = 0;
    unsigned long threads;
    char name[NAME_BYTES], head[sizeof HEAD] = "";
    if (fread(head, 1, sizeof HEAD - 1, file) != sizeof HEAD - 1 || strcmp(head, HEAD))
        return 0;
    while (a->n < MAX_ENTRIES &&
           fscanf(file, " pipeline %llx %lu %63s", &of, &threads, name) == 3) {
        a->entries[a->n] = (entry){.code = of, .threads = threads};
        strcpy(a->entries[a->n++].name, name);
    }
    return fscanf(file, " hash %llx", &hash) == 1 && hash == hash_of(a);
}

static const entry *find(const archive *a, const pipeline_descriptor *d)
{
    const function *f = (const function *)d->function;
    for (int i = 0; i < a->n; i++)
        if (a->entries[i].code == f->hash && a->entries[i].threads == d->max_threads &&
            !strcmp(a->entries[i].name, f->name))
            return &a->entries[i];
    return NULL;
}

static BOOL archive_add(archive *self, SEL command, id given, id *error)
{
    const pipeline_descriptor *d = sim_is(given, &MTLComputePipelineDescriptor_class, command);
    const function *f = sim_is(d->function, &MTLFunction_class, command);
    if (sim_fails(METALSIM_FAIL_ARCHIVE) || self->n == MAX_ENTRIES) {
        sim_error(error, ERROR_COMPILATION, "a planned failure");
        return 0;
    }
    if (find(self, d))
        return 1;
    entry *e = &self->entries[self->n++];
    *e = (entry){.code = f->hash, .threads = d->max_threads};
    snprintf(e->name, sizeof e->name, "%s", f->name);
    metalsim_count.compiled++;
    return 1;
}
static BOOL archive_serialize(archive *self, SEL command, id url, id *error)
{
    FILE *file = sim_fails(METALSIM_FAIL_ARCHIVE) ? NULL : fopen(path_of(url, command), "w");
    if (!file) {
        sim_error(error, ERROR_ARCHIVE, "the archive cannot be written");
        return 0;
    }
    fprintf(file, "%s\n", HEAD);
    for (int i = 0; i < self->n; i++)
        fprintf(file, "pipeline %llx %lu %s\n", (unsigned long long)self->entries[i].code,
                self->entries[i].threads, self->entries[i].name);
    fprintf(file, "hash %llx\n", (unsigned long long)hash_of(self));
    return fclose(file) == 0;
}
static const method MTLBinaryArchive_methods[] = {
    METHOD("addComputePipelineFunctionsWithDescriptor:error:", "B@:@^@", archive_add),
    METHOD("serializeToURL:error:", "B@:@^@", archive_serialize),
};
NO_METHODS(MTLBinaryArchive_own);
CLASS(MTLBinaryArchive, &NSObject_class, 0, NULL, 11)

typedef struct archive_descriptor {
    struct object object;
    id url;
} archive_descriptor;

static void archive_descriptor_destroy(id self)
{
    sim_release(((archive_descriptor *)self)->url);
}
static void archive_descriptor_url(archive_descriptor *self, SEL command, id url)
{
    sim_is(url, &NSURL_class, command);
    sim_set(&self->url, url);
}
static const method MTLBinaryArchiveDescriptor_methods[] = {
    METHOD("setUrl:", "v@:@", archive_descriptor_url),
};
NO_METHODS(MTLBinaryArchiveDescriptor_own);
CLASS(MTLBinaryArchiveDescriptor, &NSObject_class, sizeof(archive_descriptor),
      archive_descriptor_destroy, 11)

id sim_new_archive(id self, SEL command, id given, id *error)
{
    (void)self;
    const archive_descriptor *d = sim_is(given, &MTLBinaryArchiveDescriptor_class, command);
    archive *a = sim_new(&MTLBinaryArchive_class, sizeof *a);
    FILE *file = d->url ? fopen(path_of(d->url, command), "r") : NULL;
    const int good =
        !sim_fails(METALSIM_FAIL_ARCHIVE) && (!d->url || (file && archive_read(a, file)));
    if (file)
        fclose(file);
    if (good)
        return &a->object;
    sim_error(error, ERROR_INVALID_FILE, "the file is no archive");
    sim_release(&a->object);
    return NULL;
}

int sim_archives_have(id archives, const pipeline_descriptor *d)
{
    if (!archives)
        return 0;
    const holder *h = sim_is(archives, &NSArray_class, "binaryArchives");
    return find(sim_is(h->held, &MTLBinaryArchive_class, "binaryArchives"), d) != NULL;
}
