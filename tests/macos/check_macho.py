"""Checks what tests/macos/build.sh built, without a Mac: every Mach-O file of the folder must be of
the right architecture, run on macOS 13, link libSystem alone (and libmlxn by @rpath), and carry an
ad-hoc signature whose hashes are those of its pages; the library must export what it exports on
Linux.  Then each planted error must be found.

usage: check_macho.py arm64|x86_64 BUILD_FOLDER LINUX_LIBRARY
Ends with "N passed, N failed".  Formats: <mach-o/loader.h> and <kern/cs_blobs.h> of Apple's
open-source releases."""
import hashlib
import os
import struct
import subprocess
import sys

CPU = {"arm64": 0x0100000C, "x86_64": 0x01000007}
MAGIC, DYLIB = 0xFEEDFACF, 6
SYMTAB_DYLIBS = {0x0C: "", 0x80000018: "weak ", 0x8000001F: "re-exported "}
BUILD_VERSION, ID_DYLIB, CODE_SIGNATURE, EXPORTS, DYLD_INFO = 0x32, 0x0D, 0x1D, 0x80000033, 0x80000022
SUPERBLOB, CODE_DIRECTORY, ADHOC = 0xFADE0CC0, 0xFADE0C02, 0x2
LINKER = {"__mh_dylib_header", "___dso_handle"}  # what zig's linker adds
ALLOWED = ("/usr/lib/libSystem.B.dylib", "@rpath/libmlxn.")


def c_string(data, at):
    return data[at : data.index(0, at)].decode()


def uleb(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        shift, at = shift + 7, at + 1
        if byte < 128:
            return value, at


def exports(trie):
    """The names of an export trie."""
    names, stack = set(), [(0, "")]
    while stack and trie:
        at, prefix = stack.pop()
        size, at = uleb(trie, at)
        if size:
            names.add(prefix)
        at += size
        children, at = trie[at], at + 1
        for _ in range(children):
            label = c_string(trie, at)
            child, at = uleb(trie, at + len(label) + 1)
            stack.append((child, prefix + label))
    return names


class MachO:
    def __init__(self, data):
        self.dylibs, self.minimum, self.signature, self.names = [], None, None, set()
        self.data = data
        self.magic, self.cpu, _, self.kind, count, _, _, _ = struct.unpack_from("<8I", data)
        at = 32
        for _ in range(count):
            command, size = struct.unpack_from("<2I", data, at)
            body = struct.unpack_from(f"<{(size - 8) // 4}I", data, at + 8)
            if command in SYMTAB_DYLIBS:
                self.dylibs.append(SYMTAB_DYLIBS[command] + c_string(data, at + body[0]))
            elif command == BUILD_VERSION:
                self.minimum = (body[0], body[1] >> 16, body[1] >> 8 & 255)
            elif command == CODE_SIGNATURE:
                self.signature = data[body[0] : body[0] + body[1]]
            elif command == EXPORTS:
                self.names = exports(data[body[0] : body[0] + body[1]])
            elif command == DYLD_INFO and body[9]:
                self.names = exports(data[body[8] : body[8] + body[9]])
            at += size

    def signature_problems(self):
        if not self.signature:
            return ["not signed"]
        magic, _, count = struct.unpack_from(">3I", self.signature)
        if magic != SUPERBLOB:
            return ["the signature is none"]
        for i in range(count):
            _, at = struct.unpack_from(">2I", self.signature, 12 + 8 * i)
            if struct.unpack_from(">I", self.signature, at)[0] == CODE_DIRECTORY:
                return self.directory_problems(self.signature[at:])
        return ["the signature has no code directory"]

    def directory_problems(self, d):
        _, _, _, flags, hashes, _, _, slots, limit = struct.unpack_from(">9I", d)
        hash_size, _, _, page_bits = struct.unpack_from(">4B", d, 36)
        problems = [] if flags & ADHOC else ["the signature is not ad-hoc"]
        page = 1 << page_bits
        for i in range(slots):
            end = min((i + 1) * page, limit)
            digest = hashlib.sha256(self.data[i * page : end]).digest()[:hash_size]
            if d[hashes + i * hash_size : hashes + (i + 1) * hash_size] != digest:
                return problems + [f"page {i} is not what was signed"]
        return problems


def problems_of(data, architecture, wanted):
    """What is wrong with a file; empty: nothing."""
    m = MachO(data)
    found = []
    if m.magic != MAGIC or m.cpu != CPU[architecture]:
        return [f"no 64-bit Mach-O of {architecture}"]
    if m.minimum != (1, 13, 0):
        found.append(f"platform and minimum system are {m.minimum}, want macOS 13.0")
    for name in m.dylibs:
        if not name.startswith(ALLOWED):
            found.append(f"links {name}")
    if ALLOWED[0] not in m.dylibs:
        found.append("does not link libSystem")
    if architecture == "arm64":  # the kernel of Apple silicon runs nothing unsigned
        found += m.signature_problems()
    elif m.signature:
        found += m.signature_problems()
    if m.kind == DYLIB:
        m.names -= LINKER
        if m.names - wanted:
            found.append(f"exports {sorted(m.names - wanted)[:5]}, Linux does not")
        if wanted - m.names:
            found.append(f"lacks {sorted(wanted - m.names)[:5]}")
    return found


def planted(library, architecture, wanted):
    """(what, problems found) for copies of the library with one error each."""
    name = b"/usr/lib/libSystem.B.dylib"
    version = library.index(struct.pack("<3I", 1, 13 << 16, 0)[:8]) + 4
    code = bytearray(library)
    code[len(code) // 3] ^= 1
    copies = [
        ("another architecture", library[:4] + struct.pack("<I", 7) + library[8:], wanted),
        ("macOS 15", library[:version] + struct.pack("<I", 15 << 16) + library[version + 4 :], wanted),
        ("another library", library.replace(name, b"/usr/lib/libMetalX.B.dylib"), wanted),
        ("a symbol too many", library, wanted - {"_mlxn_version"}),
        ("a symbol too few", library, wanted | {"_mlxn_not_there"}),
    ]
    if architecture == "arm64":
        copies.append(("a changed page", bytes(code), wanted))
    for what, data, names in copies:
        found = problems_of(data, architecture, names)
        # the header is signed too: what else is wrong must be seen besides
        yield what, [f for f in found if what == "a changed page" or "signed" not in f]


def main():
    architecture, folder, linux = sys.argv[1:4]
    listed = subprocess.run(["nm", "-D", "--defined-only", linux], check=True, text=True,
                            capture_output=True).stdout.split("\n")
    # Linux names a version of the interface too
    wanted = {"_" + line.split()[-1].split("@")[0] for line in listed if " T " in line}
    passed = failed = 0
    library = None
    for base, _, names in sorted(os.walk(folder)):
        for name in sorted(names):
            path = os.path.join(base, name)
            if os.path.islink(path) or "CMakeFiles" in base or name.endswith((".o", ".a")):
                continue
            with open(path, "rb") as file:
                data = file.read()
            if data[:4] != struct.pack("<I", MAGIC):
                continue
            found = problems_of(data, architecture, wanted)
            print(f"{path}: {'; '.join(found) or 'ok'}")
            passed, failed = passed + (not found), failed + bool(found)
            if MachO(data).kind == DYLIB:
                library = data
    if library is None:
        print("there is no library")
        failed += 1
    else:
        for what, found in planted(library, architecture, wanted):
            passed, failed = passed + bool(found), failed + (not found)
            if not found:
                print(f"not found: {what}")
    print(f"{len(wanted)} symbols of the interface")
    print(f"{passed} passed, {failed} failed")
    return failed > 0 or passed < 8


sys.exit(main())
