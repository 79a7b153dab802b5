"""Holds the kernel texts, exactly as Metal gets them, against the list of what may be used of the
Metal Shading Language: docs/metal-language.md, whose rows give each construct and the version that
brought it.

usage: check_language.py SOURCE_ROOT BUILD_FOLDER

Each embedded text of the build that Metal may get is
preprocessed as Metal does it.  Then
  - every attribute, address space, type, library function and keyword in it must be in the list,
    with a version no later than the one that the backend asks the compiler for;
  - variables of file scope are constant, group memory stands in the body of a kernel only;
  - clang compiles it against a stand-in for the standard library (msl/metal_stdlib.h).
A row of the list that no text uses is an error too.  Then each planted error must be found.  Ends
with "N passed, N failed"."""
import glob
import os
import re
import subprocess
import sys
import tempfile

from tally import Tally

HERE = os.path.dirname(os.path.abspath(__file__))
# what C++14 has and the Metal language takes without saying more
PLAIN = set("""if else for while do break continue return switch case default const static inline
 struct enum typedef template typename class using namespace true false sizeof void signed unsigned
 char short int long float bool""".split())
CPP = PLAIN | set("""double goto virtual throw try catch new delete dynamic_cast typeid operator union
 friend mutable explicit extern register volatile thread_local alignas alignof constexpr auto
 decltype noexcept private public protected this nullptr reinterpret_cast static_cast const_cast
 wchar_t asm""".split())
TYPE = re.compile(r"(u?(char|short|int|long)|half|float|bool|bfloat)([2-4](x[2-4])?)?$|size_t$|"
                  r"ptrdiff_t$|u?int(8|16|32|64)_t$|atomic_\w+$|simdgroup_\w+$|texture\w*$|sampler$")
SPACES = {"kernel", "device", "constant", "threadgroup", "thread", "vertex", "fragment"}


def embedded(path):
    with open(path) as file:
        return bytes(int(h, 16) for h in re.findall(r"0x([0-9a-f]{2}),", file.read())).decode()


def preprocess(text, folder):
    open(os.path.join(folder, "metal_stdlib"), "w").close()
    done = subprocess.run(["clang", "-E", "-P", "-x", "c++", "-D__METAL_VERSION__=230", "-nostdinc",
                           "-I", folder, "-"], input=text, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(done.stderr)
    return done.stdout


def constructs(text):
    """What a preprocessed text uses of the language."""
    found = set(re.findall(r"\[\[\s*(\w+)", text))
    found = {f"[[{name}]]" for name in found}
    found |= {"#pragma " + " ".join(p.split()) for p in re.findall(r"^#pragma (.*)$", text, re.M)}
    bare = re.sub(r"^#pragma .*$", "", text, flags=re.M)
    bare = re.sub(r"\[\[.*?\]\]", "", bare)
    own = set(re.findall(r"\b(?:struct|enum|typename)\s+(\w+)", bare))
    own |= set(re.findall(r"\b[\w>]+[\s*&]+(\w+)\s*\([^;{}]*\)\s*\{", bare))  # functions
    own |= set(re.findall(r"\btypedef\s+[^;]*?(\w+)\s*;", bare))
    qualified = set(re.findall(r"\b([a-z]\w*)::(\w+)", bare))
    found |= {f"{space}::{name}" for space, name in qualified if space not in own}
    bare = re.sub(r"\b[a-z]\w*::\w+", "", bare)
    for name in set(re.findall(r"\b[A-Za-z_]\w*\b", bare)) - own:
        called = re.search(rf"\b{name}\s*(<[\w, ]+>)?\(", bare)
        if name in CPP - PLAIN or name in SPACES or (TYPE.match(name) and name not in PLAIN):
            found.add(name)
        elif called and name not in PLAIN and not re.search(rf"\b\w+ {name}\(\w*\)?;", bare):
            found.add(name)
    return found


def file_scope(text):
    """The pieces of a text at file scope, bodies left out, each with what follows it."""
    text = re.sub(r"^#.*$", "", text, flags=re.M)
    depth, piece, body = 0, "", ""
    for c in text:
        if c == "{":
            depth += 1
        if depth:
            body += c
        else:
            piece += c
        if c == "}":
            depth -= 1
        if not depth and c in ";}":
            if piece.strip(" \n;"):
                yield " ".join(piece.split()), body
            piece = body = ""


def misplaced(text):
    for piece, body in file_scope(text):
        plain = re.match(r"(typedef|using|struct|enum|template|static inline|kernel void)\b", piece)
        named = re.match(r"\w+ ?;", piece)  # the end of typedef struct { } name;
        if not plain and not named and not piece.startswith("constant "):
            yield f"at file scope: {piece[:80]}"
        inside = re.search(r"(^|[;{}])\s*threadgroup\s+\w+\s+\w+\s*\[", body)
        if inside and not piece.startswith("kernel void"):
            yield f"group memory outside of a kernel: {piece[:80]}"


def braced(text):
    """uint4(a, b, c, d) with braces, which clang wants there."""
    out, at = "", 0
    for m in re.finditer(r"\b(?:uint[234]|float4)\(", text):
        if m.start() < at:
            continue
        depth, end = 1, m.end()
        while depth:
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        out += text[at : m.end() - 1] + "{" + braced(text[m.end() : end - 1]) + "}"
        at = end
    return out + text[at:]


def compile_errors(text, folder):
    """What clang says of it as C++14 with address spaces."""
    text = re.sub(r"^#pragma METAL.*$", "", text, flags=re.M)
    text = re.sub(r"\[\[function_constant\(\d+\)\]\];", "= 1;", text)
    text = braced(text)
    text = re.sub(r"(?<=[{;])(\s*)threadgroup (\w+ \w+\[)", r"\1static threadgroup \2", text)
    path = os.path.join(folder, "text.cpp")
    with open(path, "w") as file:
        file.write(f'#include "{HERE}/msl/metal_stdlib.h"\n{text}')
    done = subprocess.run(
        ["clang++", "-std=c++14", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-Wno-unused",
         "-Wno-unused-parameter", "-Wno-unknown-attributes", "-Wno-c++17-extensions",
         "-Wno-unused-function", "-Wdouble-promotion", "-Wimplicit-float-conversion", path],
        capture_output=True, text=True)
    return [] if done.returncode == 0 else [done.stderr[:3000]]


def check(text, listed, version, folder):
    try:
        text = preprocess(text, folder)
    except ValueError as error:
        return [str(error)], set()
    used = constructs(text)
    problems = [f"not in docs/metal-language.md: {name}" for name in sorted(used - set(listed))]
    problems += [f"{name} needs {listed[name]}, the backend asks for {version}"
                 for name in sorted(used & set(listed)) if listed[name] > version]
    if "#pragma METAL fp contract(off)" not in used:
        problems.append("a * b + c may be contracted")
    problems += list(misplaced(text))
    problems += compile_errors(text, folder)
    return problems, used


def read_list(root):
    with open(os.path.join(root, "docs/metal-language.md")) as file:
        rows = re.findall(r"^\| `([^|]+)` \|[^|]*\| ([0-9]\.[0-9]|unknown) \|$", file.read(), re.M)
    listed = {}
    for names, since in rows:
        for name in names.split("`, `"):
            listed[name] = tuple(int(n) for n in since.split(".")) if since != "unknown" else (0, 0)
    return listed


def asked_version(root):
    with open(os.path.join(root, "src/backends/metal/library.c")) as file:
        name = re.search(r"metal_language = MTLLanguageVersion(\d)_(\d)", file.read())
    return int(name.group(1)), int(name.group(2))


BODY = "KERNEL(k_test, IN(float, x, 0), OUT(float, y, 1), ARGS(k_args, a, 2))\n{\n"
PLANTED = [
    ("group memory in a helper", "FN float k_f(float v)\n{\n    SHARED_ARRAY(float, s, 4);\n"
     "    s[0] = v;\n    return s[0];\n}\n" + BODY + "    y[0] = k_f(x[0]);\n}\n"),
    ("a table that is not constant", "static const float k_table[2] = {1.0f, 2.0f};\n" + BODY +
     "    y[0] = k_table[a.n];\n}\n"),
    ("a half", BODY + "    half h = (half)x[0];\n    y[0] = (float)h;\n}\n"),
    ("a function of the library", BODY + "    y[0] = metal::exp(x[0]);\n}\n"),
    ("one found by using namespace", BODY + "    y[0] = rsqrt(x[0]);\n}\n"),
    ("simd_sum", BODY + "    y[0] = simd_sum(x[0]);\n}\n"),
    ("spaces mixed", BODY + "    SHARED_ARRAY(float, s, 4);\n    GLOBAL(float) p = s;\n"
     "    y[0] = p[0];\n}\n"),
    ("a double", BODY + "    y[0] = (float)(x[0] * 2.0);\n}\n"),
    ("a write through IN", BODY + "    x[0] = 1.0f;\n    y[0] = x[0];\n}\n"),
    ("C++", BODY + "    auto v = x[0];\n    y[0] = v;\n}\n"),
]
CONSTANTS = "K_CONSTANT(k_width, 0);\n" + BODY + "    y[0] = x[0] * (float)k_width;\n}\n"
GOOD = BODY + "    SHARED_ARRAY(float, s, 4);\n    s[0] = x[0];\n    k_barrier();\n    y[0] = s[0];\n}\n"


def main():
    root, build = sys.argv[1], sys.argv[2]
    listed, version = read_list(root), asked_version(root)
    tally = Tally()
    used = set()

    names = {os.path.basename(p)[:-len(".kernel")]
             for p in glob.glob(f"{root}/src/ops/*/*.kernel") if not p.endswith("_cuda.kernel")}
    texts = {name: embedded(f"{build}/kernels/{name}.c") for name in sorted(names)}
    head = "".join(open(f"{root}/src/kernels/{h}.h").read() for h in ("dialect", "types"))
    head = re.sub(r'^#include ".*$', "", head, flags=re.M) + "struct k_args {\n    int32_t n;\n};\n"
    with tempfile.TemporaryDirectory() as folder:
        for name, text in texts.items():
            problems, its = check(text, listed, version, folder)
            used |= its
            tally.count(not problems, f"{name}: " + "\n".join(problems))
        problems, its = check(head + CONSTANTS, listed, version, folder)
        used |= its  # a user's text: no text of the library has constants
        tally.count(not problems, f"a text with function constants: {problems}")
        for name in sorted(set(listed) - used):
            tally.count(False, f"docs/metal-language.md lists {name}, which no text uses")
        problems, _ = check(head + GOOD, listed, version, folder)
        tally.count(not problems, f"a good text: {problems}")
        for why, text in PLANTED:
            problems, _ = check(head + text, listed, version, folder)
            tally.count(problems, f"not found: {why}")
        problems, _ = check(head + GOOD, listed, (1, 0), folder)
        tally.count(problems, "not found: a version that is too old")
    print(f"{len(texts)} texts, {len(used)} constructs")
    return tally.end()


if __name__ == "__main__":
    sys.exit(main())
