#!/usr/bin/env python3
"""Compiles embedded kernel texts to PTX and embeds that, for machines without NVRTC.
usage: ptx.py LIBNVRTC OUT.c TEXT.c ...    (TEXT.c as src/kernels/embed.cmake makes it)"""
import ctypes
import pathlib
import re
import sys

# What NVRTC 11.8 makes for this runs on all that the backend supports.  Other options as in
# src/backends/cuda/nvrtc.c.
OPTIONS = [b"--gpu-architecture=compute_75", b"--fmad=false", b"--std=c++17"]


class Nvrtc:
    def __init__(self, path):
        path = pathlib.Path(path).resolve()
        for builtins in sorted(path.parent.glob("libnvrtc-builtins.so*")):
            ctypes.CDLL(str(builtins))  # it is looked for by name alone
        self.library = ctypes.CDLL(str(path))

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


def shorten(ptx):
    ptx = re.sub(r"//.*", "", ptx)
    return re.sub(r"[ \t]*\n\s*", "\n", ptx).lstrip()


def main():
    nvrtc, names = Nvrtc(sys.argv[1]), []
    with open(sys.argv[2], "w", encoding="ascii") as out:
        out.write('/* Made by cmake/ptx.py. */\n#include "backends/cuda/embedded.h"\n'
                  '#include "kernels/text.h"\n')
        for path in map(pathlib.Path, sys.argv[3:]):
            text = bytes(int(byte, 16)
                         for byte in re.findall(r"0x([0-9a-f]{2})", path.read_text("ascii")))
            ptx = shorten(nvrtc.compile(path.stem, text))
            names.append(path.stem)
            out.write(f"static const char ptx_{path.stem}[] = {{\n")
            for line in ptx.splitlines(keepends=True):
                out.write(",".join(map(str, line.encode("ascii"))) + ",\n")
            out.write("0};\n")
        out.write("const mlxn_cuda_ptx mlxn_cuda_ptx_table[] = {\n")
        for name in names:
            out.write(f"    {{mlxn_kernel_text_{name}, ptx_{name}}},\n")
        out.write("    {0, 0}};\n")


if __name__ == "__main__":
    main()
