/* archive.c - compiled pipelines on disk, in the format of Apple's own: a binary archive
 * (MTLBinaryArchive) for each text, kept as backends/cache.h keeps what others write.
 *
 * Metal looks for a pipeline in the archive before it compiles one; what it had to compile is added
 * and written when the device closes.  An archive saves the step from Apple's intermediate code to
 * the GPU's; the text is still read by the compiler in every process.  Whatever fails here only
 * means that pipelines are compiled. */
#include <stdio.h>
#include <sys/utsname.h>
#include "backends/metal/constants.h"
#include "backends/metal/metal.h"

/* All that the machine code of a text depends on. */
static mlxn_hash key_of(const metal_device *metal, const char *text)
{
    const mlxn_hash start = MLXN_HASH_START;
    struct utsname system;
    mlxn_hash key = mlxn_hash_text(mlxn_hash_text(start, "Metal binary archive"), text);
    key = mlxn_hash_add(key, &mlxn_metal_language, sizeof mlxn_metal_language);
    key = mlxn_hash_text(mlxn_hash_text(key, metal->name), metal->path);
    if (!uname(&system)) {
        key = mlxn_hash_text(mlxn_hash_text(key, system.release), system.version);
        key = mlxn_hash_text(key, system.machine);
    }
    return key;
}

static id file_url(const char *path)
{
    return objc_file_url(mlxn_objc.get_class("NSURL"), mlxn_objc_string(path));
}

/* The archive in a file, an empty one for NULL; NULL where Metal gives none. */
static id new_archive(metal_device *metal, const char *path)
{
    id error = NULL, descriptor = mlxn_objc_new("MTLBinaryArchiveDescriptor");
    if (path)
        objc_set_archive_url(descriptor, file_url(path));
    id archive = objc_new_archive(metal->device, descriptor, &error);
    objc_release(descriptor);
    return archive;
}

void mlxn_metal_archive_open(metal_device *metal, metal_library *library)
{
    char path[MLXN_CACHE_PATH];
    if (!mlxn_kernel_cache_is_on() ||
        !objc_responds(metal->device, OBJC_SELECTOR(new_archive))) /* macOS 11 */
        return;
    library->key = key_of(metal, library->text);
    if (mlxn_kernel_cache_find(library->key, path))
        library->archive = new_archive(metal, path);
    if (!library->archive)
        library->archive = new_archive(metal, NULL);
}

id mlxn_metal_archive_pipeline(metal_device *metal, metal_library *library, id descriptor,
                               id *error)
{
    if (library->archive) {
        id archives = objc_array(mlxn_objc.get_class("NSArray"), library->archive);
        objc_set_archives(descriptor, archives);
        id found = objc_new_pipeline(metal->device, descriptor,
                                     MTLPipelineOptionFailOnBinaryArchiveMiss, NULL, error);
        if (found)
            return found;
        if (objc_add_pipeline(library->archive, descriptor, error)) /* compiles it */
            library->grown = 1;
        *error = NULL;
    }
    return objc_new_pipeline(metal->device, descriptor, MTLPipelineOptionNone, NULL, error);
}

void mlxn_metal_archive_close(metal_library *library)
{
    char path[MLXN_CACHE_PATH];
    id error = NULL;
    if (library->grown && mlxn_kernel_cache_begin(library->key, path)) {
        if (objc_serialize(library->archive, file_url(path), &error))
            mlxn_kernel_cache_keep(library->key, path);
        else
            remove(path);
    }
    objc_release(library->archive);
}
