"""The harness of the command's tests: @test registers a case; check() and friends raise Failed."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback

CASES = []


class Failed(Exception):
    pass


def test(full=False):
    """Registers a case; full: of the long tier only."""
    def register(function):
        CASES.append((function.__name__, function, full))
        return function
    return register


def check(condition, *what):
    if not condition:
        raise Failed(" ".join(str(w) for w in what) or "check failed")


def equal(got, want, what=""):
    check(got == want, what, "got", repr(got)[:300], "want", repr(want)[:300])


class Result:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    def text(self):
        return self.out.decode("utf-8")

    def lines(self):
        return [json.loads(line, parse_constant=no_constant) for line in self.out.splitlines()]


def no_constant(name):
    raise Failed(f"{name} is no JSON")


class Mlxn:
    """Runs the command; everything it writes below its own folder."""

    def __init__(self, path):
        self.path = os.path.abspath(path)
        self.folder = tempfile.mkdtemp()

    def close(self):
        shutil.rmtree(self.folder)

    def run(self, *args, stdin=b"", env=None, timeout=600):
        environment = dict(os.environ, **(env or {}))
        done = subprocess.run([self.path, *map(str, args)], input=stdin, env=environment,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout)
        check(done.returncode >= 0, args, "died of signal", -done.returncode, done.stderr[-500:])
        check(b"Sanitizer" not in done.stderr, args, done.stderr[-3000:])
        return Result(done.returncode, done.stdout, done.stderr.decode("utf-8", "replace"))

    def ok(self, *args, **kwargs):
        result = self.run(*args, **kwargs)
        equal(result.code, 0, f"{args}: {result.err}")
        return result

    def fails(self, *args, says=(), code=1, **kwargs):
        """It must fail with this code, say so on stderr, and write nothing to stdout."""
        result = self.run(*args, **kwargs)
        equal(result.code, code, f"{args}: {result.err}")
        for word in [says] if isinstance(says, str) else says:
            check(word in result.err, args, "says", repr(result.err), "and not", word)
        equal(result.out, b"", args)
        return result

    def file(self, name, data):
        path = os.path.join(self.folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as out:
            out.write(data)
        return path


def run_all(mlxn, options):
    passed = failed = 0
    for name, function, full in CASES:
        if (full and not options.full) or (options.filter and options.filter not in name):
            continue
        begin = time.time()
        try:
            function(mlxn, options)
            passed += 1
            if options.verbose:
                print(f"ok {name} ({time.time() - begin:.1f} s)", flush=True)
        except Exception as error:  # whatever it is, this case failed
            failed += 1
            print(f"FAILED {name}: {error}")
            if not isinstance(error, Failed):
                traceback.print_exc(file=sys.stdout)
    print(f"{passed} passed, {failed} failed")
    return failed
