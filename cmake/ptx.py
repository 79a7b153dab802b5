#!/usr/bin/env python3
"""Compiles embedded kernel texts to the PTX that is committed in src/backends/cuda/ptx.
usage: ptx.py [--check] LIBNVRTC FOLDER TEXT.c ...    (TEXT.c as src/kernels/embed.cmake makes it)

A file NAME.ptx.lzma a text, which `xz -d` reads too.  Its first line names the text's hash
(src/backends/cache.c), by which the library knows that it is that of its text.  With --check nothing
is written: exits with 1 if a file is not what would be."""
import argparse
import concurrent.futures
import ctypes
import lzma
import os
import pathlib
import re
import struct
import sys

# What NVRTC 11.8 makes for this runs on all that the backend supports.  Other options as in
# src/backends/cuda/nvrtc.c, but with all entries, and all constants (of MLXN_MAX_CONSTANTS) open.
OPTIONS = [b"--gpu-architecture=compute_75", b"--fmad=false", b"--std=c++17"]
OPTIONS += [f"-DMLXN_CONSTANT_{i}=(-1)".encode() for i in range(8)]
# What src/backends/cuda/lzma.c takes.
LZMA = [{"id": lzma.FILTER_LZMA1, "preset": 9 | lzma.PRESET_EXTREME, "nice_len": 273,
         "lc": 3, "lp": 0, "pb": 0}]
WORD = 2**64 - 1


class Nvrtc:
    def __init__(self, path):
        self.library = ctypes.CDLL(path)

    def text_of(self, program, size, get):
        length = ctypes.c_size_t()
        getattr(self.library, size)(program, ctypes.byref(length))
        text = ctypes.create_string_buffer(length.value)
        getattr(self.library, get)(program, text)
        return text.value.decode()

    def compile(self, name, text):
        program = ctypes.c_void_p()
        options = (ctypes.c_char_p * len(OPTIONS))(*OPTIONS)
        if self.library.nvrtcCreateProgram(ctypes.byref(program), text, name.encode(), 0, None,
                                           None):
            sys.exit(f"{name}: nvrtcCreateProgram failed")
        if self.library.nvrtcCompileProgram(program, len(OPTIONS), options):
            sys.exit(f"{name}: {self.text_of(program, 'nvrtcGetProgramLogSize', 'nvrtcGetProgramLog')}")
        ptx = self.text_of(program, "nvrtcGetPTXSize", "nvrtcGetPTX")
        self.library.nvrtcDestroyProgram(ctypes.byref(program))
        return ptx


def mix(x):
    for _ in range(2):
        x = ((x ^ x >> 32) * 0xD6E8FEB86659FD93) & WORD
    return x ^ x >> 32


def hash_of(text):
    """mlxn_hash_text() of src/backends/cache.c."""
    a, b, data = 0x243F6A8885A308D3, 0x13198A2E03707344, text + b"\0"
    for at in range(0, len(data), 8):
        (word,) = struct.unpack("<Q", data[at:at + 8].ljust(8, b"\0"))
        a = mix(a ^ word)
        b = mix((b + word * 0x9E3779B97F4A7C15) & WORD) ^ a
    a = mix(a ^ len(data))
    return f"{a:016x}{mix((b + len(data)) & WORD) ^ a:016x}"


def shorten(ptx):
    ptx = re.sub(r"//.*", "", ptx)
    return re.sub(r"[ \t]*\n\s*", "\n", ptx).lstrip()


def ptx_of(library, path):
    """The contents of a text's file; empty if all of the text is for others than this target."""
    text = bytes(int(byte, 16) for byte in re.findall(r"0x([0-9a-f]{2})", path.read_text("ascii")))
    ptx = shorten(Nvrtc(library).compile(path.stem, text))
    return f"// of kernel text {hash_of(text)}\n{ptx}".encode() if ".entry" in ptx else b""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    parser.add_argument("library")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("texts", nargs="+", type=pathlib.Path)
    args = parser.parse_args()
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
        made = dict(zip((f"{text.stem}.ptx.lzma" for text in args.texts),
                        pool.map(ptx_of, [args.library] * len(args.texts), args.texts)))
    kept = {path.name: lzma.decompress(path.read_bytes()) for path in args.folder.glob("*.lzma")}
    changed = [name for name in sorted(made.keys() | kept.keys())
               if made.get(name, b"") != kept.get(name, b"")]
    for name in changed:
        print(f"{name}: {'is not what its text gives' if args.check else 'made'}")
        if not args.check:
            (args.folder / name).unlink(missing_ok=True)
            if made.get(name):
                (args.folder / name).write_bytes(
                    lzma.compress(made[name], lzma.FORMAT_ALONE, filters=LZMA))
    if args.check and changed:
        sys.exit("make them anew: cmake --build BUILD --target ptx")


if __name__ == "__main__":
    main()
