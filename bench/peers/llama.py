#!/usr/bin/env python3
"""Compares `mlxn bench` with llama.cpp on the same file, with the same number of threads.

The peer is llama-cpp-python from PyPI, in a virtual environment below the cache (--install makes
it, which compiles for minutes) or in the one that --venv names; it is driven through llama.cpp's
own C functions, so that no Python runs between tokens but a call of llama_decode.  As llama-bench
does: ppN decodes N random ids at once, tgN decodes N ids one by one after BOS, logits of the last
token only; flash attention auto.  mlxn picks each next token greedily within its time; tg-greedy64 is
the same with --screen, against the peer's tg64, for files that have a screen (a Q8_0 output matrix).

Rounds alternate between the two, each in a fresh process with a warm-up; the ratio is mlxn / peer,
the median over the rounds, with the smallest and the largest.  Peak memory is VmHWM of a process
that runs pp512 and tg64 at context 2048; what the peer's interpreter held before the model was
loaded is named and not counted.  Load to first token: from before the file is opened (mlxn: from
the start of the command) until the logits after a prompt of 6 tokens are there, best of three."""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

PEER = "llama-cpp-python==0.3.36"
GREEDY = "tg-greedy64"
PROMPT = "The capital of France is"
PROMPT_IDS = [2, 818, 5279, 529, 7001, 563]


def cache_folder():
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(base, "mlxn")


# ---- in the peer's interpreter ----

def status_bytes(key):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(key + ":"))


class Peer:
    def __init__(self, job):
        import ctypes
        import llama_cpp
        self.api, self.ctypes = llama_cpp, ctypes
        self.silent = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(self.silent, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        self.before = status_bytes("VmRSS")
        self.start = time.perf_counter()
        self.model = llama_cpp.llama_model_load_from_file(
            job["model"].encode(), llama_cpp.llama_model_default_params())
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = job["context"]
        params.n_threads = params.n_threads_batch = job["threads"]
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        if not self.model or not self.context:
            raise SystemExit("llama.cpp cannot load the model")

    def decode(self, ids):
        array = (self.api.llama_token * len(ids))(*ids)
        if self.api.llama_decode(self.context, self.api.llama_batch_get_one(array, len(ids))):
            raise SystemExit("llama_decode failed")

    def clear(self):
        self.api.llama_memory_clear(self.api.llama_get_memory(self.context), True)

    def prompt(self, ids):
        self.clear()
        start = time.perf_counter()
        self.decode(ids)
        self.api.llama_synchronize(self.context)
        return len(ids) / (time.perf_counter() - start)

    def generate(self, ids):
        self.clear()
        self.decode([2])
        self.api.llama_synchronize(self.context)
        start = time.perf_counter()
        for one in ids:
            self.decode([one])
            self.api.llama_synchronize(self.context)
        return len(ids) / (time.perf_counter() - start)


def random_ids(count):
    state, ids = 1, []
    for _ in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        ids.append((state >> 33) % 262144)
    return ids


def worker(job):
    peer = Peer(job)
    result = {}
    if job.get("first_token"):
        peer.decode(PROMPT_IDS)
        peer.api.llama_synchronize(peer.context)
        result["first_token"] = time.perf_counter() - peer.start
    for test in job["tests"]:
        ids = random_ids(int(test[2:]))
        run = peer.prompt if test.startswith("pp") else peer.generate
        run(ids)
        result[test] = statistics.mean(run(ids) for _ in range(job["repetitions"]))
    result["peak"] = status_bytes("VmHWM")
    result["before"] = peer.before
    print(json.dumps(result))


# ---- in this one ----

def run_json(command):
    done = subprocess.run(command, stdout=subprocess.PIPE)
    if done.returncode:
        raise SystemExit(f"{command[0]} failed with exit code {done.returncode}")
    return done.stdout


def run_mlxn(o, tests, repetitions, *flags):
    """{test: tokens a second, "peak": bytes}"""
    def lengths(kind):
        return ",".join(t[2:] for t in tests if t.startswith(kind)) or "0"
    rows = json.loads(run_json([o.mlxn, "bench", "-m", o.model, "-t", str(o.threads), "-c",
                                str(o.context), "-p", lengths("pp"), "-n", lengths("tg"), "-r",
                                str(repetitions), "-o", "json", "--matmul", o.matmul, *flags]))
    result = {row["test"]: row["avg_ts"] for row in rows}
    result["peak"] = rows[-1]["peak_memory_bytes"]
    return result


def run_peer(o, tests, repetitions, first_token=False):
    job = {"model": o.model, "threads": o.threads, "context": o.context, "tests": tests,
           "repetitions": repetitions, "first_token": first_token}
    return json.loads(run_json([o.python, __file__, "--worker", json.dumps(job)]))


def mlxn_first_token(o):
    out = run_json([o.mlxn, "run", "-m", o.model, "-t", str(o.threads), "-c", str(o.context), "-p",
                    PROMPT, "-n", "1", "--temp", "0", "--matmul", o.matmul, "--output",
                    "jsonl"])
    return json.loads(out.splitlines()[-1])["first_token_seconds"]


def find_peer(o):
    """The python that has the peer, or None."""
    venv = o.venv or os.path.join(cache_folder(), "peers", "llama")
    python = os.path.join(venv, "bin", "python")
    if o.install and not o.venv and not os.path.exists(python):
        print(f"installing {PEER} into {venv}; it compiles for some minutes", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", PEER], check=True)
    probe = [python, "-c", "import llama_cpp; print(llama_cpp.__version__)"]
    if not os.path.exists(python):
        return None, None
    done = subprocess.run(probe, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return (python, done.stdout.strip()) if done.returncode == 0 else (None, None)


def row(name, ours, theirs, unit):
    """A line of the table: medians, and the spread of the ratios."""
    line = f"| {name:<20} | {statistics.median(ours):>9.2f} {unit:<5} |"
    if theirs:
        ratios = [a / b for a, b in zip(ours, theirs)]
        line += (f" {statistics.median(theirs):>9.2f} {unit:<5} | {statistics.median(ratios):>6.3f} |"
                 f" {min(ratios):.3f} to {max(ratios):.3f} |")
    else:
        line += " not run         |        |                |"
    print(line, flush=True)


def has_screen(o):
    """Whether mlxn takes --screen for this file; it says why where it does not."""
    done = subprocess.run([o.mlxn, "bench", "-m", o.model, "-c", str(o.context), "-p", "0", "-n", "1",
                           "-r", "1", "--screen"], stdout=subprocess.DEVNULL)
    if done.returncode:
        print(f"{GREEDY} is left out, for what mlxn says of --screen above", file=sys.stderr)
    return done.returncode == 0


def compare(o, tests):
    ours, theirs = [], []
    screened = has_screen(o)
    for _ in range(o.rounds):
        ours.append(run_mlxn(o, tests, o.repetitions))
        if screened:
            ours[-1] |= {GREEDY: run_mlxn(o, ["tg64"], o.repetitions, "--screen")[GREEDY]}
        if o.python:
            theirs.append(run_peer(o, tests, o.repetitions))
    print("| test                 | mlxn            | llama.cpp       |  ratio | spread         |\n"
          "| -------------------- | --------------- | --------------- | ------ | -------------- |")
    for test in tests:
        row(test, [r[test] for r in ours], [r[test] for r in theirs], "tok/s")
    if screened:
        row(GREEDY, [r[GREEDY] for r in ours], [r["tg64"] for r in theirs], "tok/s")
    memory = run_mlxn(o, ["pp512", "tg64"], 1)["peak"] / 2**20
    first = min(mlxn_first_token(o) for _ in range(3))
    if not o.python:
        row("peak memory", [memory], [], "MiB")
        row("load to first token", [first], [], "s")
        return
    peer = run_peer(o, ["pp512", "tg64"], 1)
    row("peak memory", [memory], [(peer["peak"] - peer["before"]) / 2**20], "MiB")
    row("load to first token", [first],
        [min(run_peer(o, [], 1, first_token=True)["first_token"] for _ in range(3))], "s")
    print(f"\nThe peer's interpreter held {peer['before'] / 2**20:.1f} MiB before the load, which are "
          "not in its peak memory.")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mlxn", default="build/cli/mlxn")
    parser.add_argument("--model", default=os.path.join(cache_folder(), "models",
                                                        "gemma-3-270m-q4_k_m.gguf"))
    parser.add_argument("--venv", help="a virtual environment that has llama-cpp-python")
    parser.add_argument("--install", action="store_true", help=f"install {PEER} if it is not there")
    parser.add_argument("-t", "--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("-c", "--context", type=int, default=2048)
    parser.add_argument("--matmul", choices=["fast", "exact"], default="fast")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("-r", "--repetitions", type=int, default=3, help="runs in a round")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    o = parser.parse_args()
    if o.worker:
        return worker(json.loads(o.worker))
    if not os.path.exists(o.model):
        raise SystemExit(f"no model at {o.model}: `mlxn pull gemma3-270m` fetches it")
    o.python, version = find_peer(o)
    if o.python:
        print(f"mlxn against llama.cpp (llama-cpp-python {version}), {o.threads} threads, "
              f"{o.rounds} rounds of {o.repetitions}\n")
    else:
        print("the peer is not there: --install installs it, --venv names one; our figures alone:\n")
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"beware: other work is going on (load average {load:.1f}); a team of threads that "
              "spins suffers most from it\n")
    return compare(o, ["pp512", "pp128", "tg64"])


if __name__ == "__main__":
    main()
