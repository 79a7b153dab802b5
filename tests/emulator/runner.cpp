// runner.cpp - the C interface of emulator.h: compiles kernel text, loads it, reads the parameter
// lists, hands dispatches to the runtime.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "runtime.hpp"

#if !defined(EMU_FLAGS) /* further ones for the texts */
#define EMU_FLAGS ""
#endif

struct emu_library {
    struct kernel {
        const emu::entry *entry;
        std::vector<emu::parameter> parameters;
    };
    void *handle;
    bool checked;
    emu::constant_list *constants;
    emu::constant_list compiled; // as they were made
    std::vector<kernel> kernels;
};

// "emu::in<uchar> x, emu::args<s> a": kinds and names.
static std::vector<emu::parameter> parse(const std::string &text)
{
    static const struct {
        const char *prefix;
        emu::parameter_kind kind;
    } kinds[] = {{"emu::inout<", emu::PARAMETER_INOUT},
                 {"emu::in<", emu::PARAMETER_IN},
                 {"emu::out<", emu::PARAMETER_OUT},
                 {"emu::args<", emu::PARAMETER_ARGS}};
    std::vector<emu::parameter> list;
    for (size_t at = text.find("emu::"); at != std::string::npos;) {
        const size_t next = text.find("emu::", at + 5);
        std::string one = text.substr(at, next == std::string::npos ? next : next - at);
        const size_t name = one.find_first_not_of(' ', one.rfind('>') + 1);
        for (const auto &k : kinds)
            if (!one.compare(0, strlen(k.prefix), k.prefix)) {
                list.push_back({k.kind, one.substr(name, one.find_first_of(" ,", name) - name)});
                break;
            }
        at = next;
    }
    return list;
}

static const emu_library::kernel *find(const emu_library *library, const char *name)
{
    for (const auto &k : library->kernels)
        if (!strcmp(k.entry->name, name))
            return &k;
    return nullptr;
}

// Runs a command; its output goes to log.  The command's exit status.
static int run(const std::string &command, char *log, size_t log_size)
{
    FILE *out = popen((command + " 2>&1").c_str(), "r");
    if (!out) {
        snprintf(log, log_size, "cannot run %s", command.c_str());
        return -1;
    }
    const size_t n = fread(log, 1, log_size - 1, out);
    log[n] = 0;
    char rest[512];
    while (fread(rest, 1, sizeof rest, out) > 0) {
    }
    return pclose(out);
}

static std::string compile_command(const std::string &source, const std::string &object,
                                   bool checked)
{
    const char *compiler = getenv("CXX");
    std::string command = compiler ? compiler : EMU_COMPILER;
    /* checked text is compiled in a quarter of the time without optimisation, and the runtime's
     * checks outweigh it anyway; the bits are the same */
    command += checked ? " -O0" : " -O1";
    command += " -std=c++17 -fPIC -shared -w -ffp-contract=off -fno-strict-aliasing"
               " -fvisibility=hidden -I" EMU_DIRECTORY EMU_FLAGS;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("fma"))
        command += " -mfma";
#endif
    return command + (checked ? " -DEMU_CHECKED" : "") + " -o " + object + " -x c++ " + source;
}

emu_library *emu_open(const char *object, char *log, size_t log_size)
{
    void *handle = dlopen(object, RTLD_NOW | RTLD_LOCAL);
    typedef emu::entry *(*loader)(const emu::runtime *, int *, emu::constant_list **);
    loader start = handle ? (loader)dlsym(handle, "mlxn_emulator_load") : nullptr;
    if (!start) {
        snprintf(log, log_size, "%s", dlerror());
        if (handle)
            dlclose(handle);
        return nullptr;
    }
    int checked = 0;
    emu_library *library = new emu_library{handle, false, nullptr, {}, {}};
    for (const emu::entry *e = start(&emu::runtime_table, &checked, &library->constants); e;
         e = e->next)
        library->kernels.push_back({e, parse(e->parameters)});
    library->checked = checked != 0;
    library->compiled = *library->constants;
    return library;
}

int emu_compile_file(const char *text, int checked, const char *object, char *log, size_t log_size)
{
    const std::string source = std::string(object) + ".cpp";
    FILE *out = fopen(source.c_str(), "w");
    const bool written = out && fputs(text, out) >= 0;
    bool built = false;
    if (out && fclose(out) == 0 && written)
        built = run(compile_command(source, object, checked != 0), log, log_size) == 0;
    else
        snprintf(log, log_size, "cannot write %s", source.c_str());
    unlink(source.c_str());
    return built;
}

emu_library *emu_compile(const char *text, int checked, char *log, size_t log_size)
{
    const char *where = getenv("TMPDIR");
    std::string directory = std::string(where ? where : "/tmp") + "/mlxn-emulator-XXXXXX";
    if (!mkdtemp(&directory[0])) {
        snprintf(log, log_size, "cannot make a directory like %s", directory.c_str());
        return nullptr;
    }
    const std::string object = directory + "/kernel.so";
    emu_library *library = nullptr;
    if (emu_compile_file(text, checked, object.c_str(), log, log_size))
        library = emu_open(object.c_str(), log, log_size);
    unlink(object.c_str());
    rmdir(directory.c_str());
    return library;
}

void emu_release(emu_library *library)
{
    if (!library)
        return;
    dlclose(library->handle);
    delete library;
}

int emu_parameters(const emu_library *library, const char *kernel)
{
    const emu_library::kernel *k = find(library, kernel);
    return k ? (int)k->parameters.size() : -1;
}

uint32_t emu_constants(const emu_library *library)
{
    return library->compiled.present;
}

size_t emu_args_bytes(const emu_library *library, const char *kernel)
{
    const emu_library::kernel *k = find(library, kernel);
    return k ? k->entry->args_bytes : 0;
}

uint32_t emu_writes(const emu_library *library, const char *kernel)
{
    const emu_library::kernel *k = find(library, kernel);
    uint32_t mask = 0;
    for (size_t i = 0; k && i < k->parameters.size(); i++)
        if (k->parameters[i].kind == emu::PARAMETER_OUT ||
            k->parameters[i].kind == emu::PARAMETER_INOUT)
            mask |= 1u << i;
    return mask;
}

long emu_dispatch(const emu_library *library, const emu_launch *launch, emu_report *report)
{
    *report = emu_report();
    const emu_library::kernel *k = find(library, launch->kernel);
    if (!k || (int)k->parameters.size() != launch->n_buffers || !launch->threads ||
        launch->threads > 1024)
        return -1;
    *library->constants = library->compiled;
    for (int i = 0; i < launch->n_constants; i++)
        library->constants->at[i] = launch->constants[i];
    emu::dispatch(*k->entry, k->parameters, library->checked, *launch, report);
    return report->races + report->bounds + report->uninitialised + report->divergence +
           report->alias + report->early;
}
