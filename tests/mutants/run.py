#!/usr/bin/env python3
"""run.py LIST... - shows that the tests can fail: applies each break of the lists (LIST.txt here),
runs the tests of its filter, which must fail.  Ends with "N passed, N failed": caught and missed.

The tree is built once, on one SIMD path, which is enough for this, and the filters must pass there.
A broken file lies in a folder of its own, in front of the include path: only what includes it is
compiled again, without optimisation, and linked with the objects of the others.  Two breaks run at
once; a test program ends at its first failure."""
import concurrent.futures
import filecmp
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
PROCESSES = int(os.environ.get("JOBS", "2"))
SECONDS = 120  # of the tests of one break


def call(*command, cwd=None):
    done = subprocess.run(command, cwd=cwd, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    if done.returncode:
        sys.exit(done.stdout)
    return done.stdout


class Build:
    """The unbroken tree: how its objects are made, what each includes, how the tests are linked."""

    def __init__(self, folder):
        self.source, self.folder = os.path.join(folder, "tree"), os.path.join(folder, "build")
        for name in ("cmake", "include", "src", "tests"):
            shutil.copytree(os.path.join(ROOT, name), os.path.join(self.source, name))
        shutil.copy(os.path.join(ROOT, "CMakeLists.txt"), self.source)
        call("cmake", "-G", "Ninja", "-S", self.source, "-B", self.folder,
             "-DCMAKE_BUILD_TYPE=None", "-DCMAKE_C_FLAGS=-O1 -w", "-DMLXN_ISAS=portable",
             "-DMLXN_BUILD_CLI=OFF", "-DMLXN_BUILD_BENCH=OFF", "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON")
        call("ninja", "-C", self.folder, "-j", str(PROCESSES), "mlxn-test")
        self.link = call("ninja", "-C", self.folder, "-t", "commands", "-s", "tests/mlxn-test")
        self.link = shlex.split(self.link.splitlines()[-1].split("&&")[1])
        self.compile = {}
        with open(os.path.join(self.folder, "compile_commands.json"), encoding="utf-8") as file:
            for entry in json.load(file):
                words = shlex.split(entry["command"])
                self.compile[words[words.index("-o") + 1]] = words
        self.users = {}  # the objects that a file of the tree goes into
        for line in call("ninja", "-C", self.folder, "-t", "deps").splitlines():
            if not line.startswith(" "):
                of = line.split(":")[0]
            elif of in self.compile:
                self.users.setdefault(os.path.relpath(line.strip(), self.source), []).append(of)

    def broken(self, folder, path):
        """The test program with the broken copy of path in folder; None if it does not build."""
        objects = {}
        for of in self.users.get(path, []):
            objects[of] = os.path.join(folder, os.path.basename(of))
            words = [os.path.join(folder, path) if w == os.path.join(self.source, path) else w
                     for w in self.compile[of]]
            words[words.index("-o") + 1] = objects[of]
            front = ["-I" + os.path.join(folder, "src"), "-iquote", os.path.join(self.source,
                     os.path.dirname(path))]
            if not self.run([words[0], *front, *words[1:], "-O0"]):
                return None
        program = os.path.join(folder, "mlxn-test")
        words = [objects.get(w, w) for w in self.link]  # those of the library: before its archive
        words[words.index("-o") + 1] = program
        first = next(i for i, w in enumerate(words) if w.endswith(".o"))
        words[first:first] = [o for of, o in objects.items() if of not in self.link]
        return program if objects and self.run(words) else None

    def run(self, words):
        return subprocess.run(words, cwd=self.folder, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, check=False).returncode == 0


def passes(program, *tests):
    try:
        return subprocess.run([program, "--fail-fast", *tests], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, check=False,
                              timeout=SECONDS).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def parts(line):
    """Of a line of a list: what it breaks, the file, how, the tests that must see it."""
    what, path, rest = line.split(" | ", 2)
    return what, path, *rest.rsplit(" | ", 1)


def verdict(build, path, edit, tests):
    """Why a break is missed, None if it is caught."""
    with tempfile.TemporaryDirectory() as folder:
        source, copy = os.path.join(build.source, path), os.path.join(folder, path)
        os.makedirs(os.path.dirname(copy))
        with open(copy, "w", encoding="utf-8") as file:
            file.write(call("sed", edit, source))
        if edit and filecmp.cmp(source, copy, shallow=False):
            return "the edit changes nothing"
        program = build.broken(folder, path)
        if not program:
            return "it does not build"
        return "the tests pass" if passes(program, tests) else None


def sound(build, lines):
    """Whether the tests pass on the unbroken tree, and on one file of it put together as a broken
    one is."""
    _, path, _, tests = parts(lines[0])
    program = os.path.join(build.folder, "tests", "mlxn-test")
    return passes(program, *{parts(line)[3] for line in lines}) and \
        verdict(build, path, "", tests) == "the tests pass"


def main():
    lines = []
    for name in sys.argv[1:]:
        with open(os.path.join(HERE, name + ".txt"), encoding="utf-8") as file:
            lines += [l for l in file.read().splitlines() if l and not l.startswith("#")]
    missed = 0
    with tempfile.TemporaryDirectory() as folder, \
            concurrent.futures.ThreadPoolExecutor(PROCESSES) as pool:
        build = Build(folder)
        unbroken = pool.submit(sound, build, lines)
        for line, why in zip(lines, pool.map(lambda l: verdict(build, *parts(l)[1:]), lines)):
            print(f"missed ({why}): {parts(line)[0]}" if why else f"caught: {parts(line)[0]}",
                  flush=True)
            missed += why is not None
        if not unbroken.result():
            print("missed: nothing is broken, and the tests fail")
            missed += 1
    print(f"{len(lines) + 1 - missed} passed, {missed} failed")
    return missed != 0


sys.exit(main())
