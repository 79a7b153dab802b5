#!/usr/bin/env python3
"""Compares `mlxn bench head-norm-rope` with PyTorch, ggml and MLX on the CPU.

Each peer is a process of its own that is asked for one sample after the other, in turns with mlxn,
so that a slow moment of the machine meets all.  What they compute: RMS norm over the head, times a
weight, then the rotation of the two halves.  PyTorch gets tables of cosines and sines (eager, and
through torch.compile), ggml (rms_norm, mul, rope NEOX; f32 only) and MLX (fast.rms_norm,
fast.rope, compiled) compute the angles, as mlxn does unless --angles tables is given.  Each is
told to keep freed memory, so that page faults do not count.  A peer that is not found is reported
and left out.

Two threads of ggml meet at a spinning barrier after each node, three times a chain: where anything
else runs, each of these may wait for a time slice, and its figure grows a hundredfold.  On a
machine that is not idle all must run above the rest: chrt -f 1 python3 head_norm_rope.py ...

The ratio is peer / mlxn: the median over the rounds, with the smallest and the largest.  memcpy is
a copy of the same bytes by the same threads inside `mlxn bench`.  --svg writes the chart."""
import argparse
import glob
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "-1",
               "MALLOC_TOP_PAD_": "268435456"}


# ---- in a peer's interpreter ----

def time_calls(call):
    call()
    count, start = 0, time.perf_counter()
    while count == 0 or time.perf_counter() - start < 5e-3:
        call()
        count += 1
    return (time.perf_counter() - start) / count


def torch_worker(threads, compiled):
    import torch
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)

    def head_norm_rope(x, weight, cosine, sine):
        y = torch.nn.functional.rms_norm(x, (x.shape[-1],), weight, 1e-6)
        low, high = y.chunk(2, dim=-1)
        return torch.cat((low * cosine - high * sine, high * cosine + low * sine), dim=-1)

    def prepare(tokens, heads, dim, dtype):
        torch._dynamo.reset()  # or the ninth shape would run eagerly
        kind = torch.float32 if dtype == "f32" else torch.bfloat16
        angle = torch.arange(tokens)[:, None, None] + 1000.0
        angle = angle * 1e4 ** (-2 * torch.arange(dim // 2) / dim)
        operands = (torch.randn(tokens, heads, dim).to(kind), torch.ones(dim).to(kind),
                    angle.cos().to(kind), angle.sin().to(kind))
        function = torch.compile(head_norm_rope, dynamic=False) if compiled else head_norm_rope
        return lambda: function(*operands)
    return prepare


def mlx_worker(_):
    import mlx.core as mx

    def prepare(tokens, heads, dim, dtype):
        kind = mx.float32 if dtype == "f32" else mx.bfloat16
        x = mx.random.normal((1, tokens, heads, dim)).astype(kind)
        weight = mx.ones(dim).astype(kind)

        @mx.compile
        def head_norm_rope(x):
            y = mx.fast.rms_norm(x, weight, 1e-6).transpose(0, 2, 1, 3)
            return mx.fast.rope(y, dim, traditional=False, base=1e4, scale=1.0, offset=1000)
        mx.eval(x, weight)
        return lambda: mx.eval(head_norm_rope(x))
    return prepare


def serve(kind, threads):
    """The protocol of ggml_head_norm_rope.c."""
    prepare = mlx_worker(threads) if kind == "mlx" else torch_worker(threads, kind == "compile")
    call = None
    for line in sys.stdin:
        words = line.split()
        if words[0] == "shape":
            call = prepare(*map(int, words[1:4]), words[4])
            call()
            print("ok", flush=True)
        else:
            print(f"{time_calls(call):.10f}", flush=True)


# ---- in this one ----

class Worker:
    def __init__(self, name, command):
        self.name = name
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, env={**os.environ, **KEEP_MEMORY})

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{self.name} ended")
        return answer.strip()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def imports(python, module):
    return os.path.exists(python) and subprocess.run(
        [python, "-c", f"import {module}"], stderr=subprocess.DEVNULL).returncode == 0


def build_ggml(venv, folder):
    """The worker for ggml, or None."""
    libraries = glob.glob(f"{venv}/lib/python*/site-packages/llama_cpp/lib")
    headers = glob.glob(f"{venv}/lib/python*/site-packages/include/ggml.h")
    compiler = shutil.which("cc")
    if not libraries or not headers or not compiler:
        return None
    program = os.path.join(folder, "ggml_head_norm_rope")
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "ggml_head_norm_rope.c")
    done = subprocess.run([compiler, "-O2", "-o", program, source, "-I",
                           os.path.dirname(headers[0]), "-L", libraries[0], "-lggml-cpu",
                           "-lggml-base", f"-Wl,-rpath,{libraries[0]}"])
    return program if done.returncode == 0 else None


def start_peers(o, folder):
    peers = []
    this = os.path.abspath(__file__)
    for name, kind, module, venv in (("torch eager", "eager", "torch", o.venv),
                                     ("torch.compile", "compile", "torch", o.venv),
                                     ("MLX", "mlx", "mlx.core", o.mlx)):
        python = os.path.join(venv or "", "bin", "python")
        if imports(python, module):
            peers.append(Worker(name, [python, this, "--serve", kind, "-t", str(o.threads)]))
        else:
            print(f"{name}: not found, not run", file=sys.stderr)
    ggml = build_ggml(o.venv, folder) if o.venv else None
    if ggml:
        peers.append(Worker("ggml", [ggml, str(o.threads)]))
    else:
        print("ggml: not found, not run", file=sys.stderr)
    return peers


def run_mlxn(o, tokens, heads, dim, dtype):
    out = subprocess.run(
        [o.mlxn, "bench", "head-norm-rope", "-n", str(tokens), "--heads", str(heads), "--head-dim",
         str(dim), "--dtype", dtype, "--angles", o.angles, "-t", str(o.threads), "-r", "3",
         "--device", "cpu", "-o", "json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout
    return json.loads(out)[0]


def compare(o, peers, shape):
    """{name: seconds of each round}; mlxn, memcpy, and the peers that can."""
    able = [p for p in peers if p.ask("shape %d %d %d %s" % shape) == "ok"]
    seconds = {name: [] for name in ["mlxn", "memcpy"] + [p.name for p in able]}
    for _ in range(o.rounds):
        row = run_mlxn(o, *shape)
        seconds["mlxn"].append(row["seconds"])
        seconds["memcpy"].append(row["copy_seconds"])
        for peer in able:
            time.sleep(0.02)  # until the threads of the one before sleep
            seconds[peer.name].append(float(peer.ask("sample")))
    return seconds, row["bytes"]


def cell(ours, theirs):
    if not theirs:
        return "-"
    ratios = [b / a for a, b in zip(ours, theirs)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def print_row(shape, seconds, names):
    ours = seconds["mlxn"]
    cells = [cell(ours, seconds.get(name)) for name in names]
    print("| %d x %d x %d | %s |" % shape, f"{statistics.median(ours) * 1e6:.3f} |",
          " | ".join(cells), "|", flush=True)


# ---- the chart ----

COLOURS = {"mlxn": "#1f5fbf", "memcpy": "#9aa5b1", "torch eager": "#e8b27d",
           "torch.compile": "#d9782d", "ggml": "#4f9d69", "MLX": "#8e6bbf"}


def chart(results, names, threads):
    """Bars of GB/s for each shape, as SVG."""
    names = ["memcpy", "mlxn"] + names
    bar, group, height, left, top = 11, 11 * len(names) + 26, 260, 56, 58
    rates = [{n: size / statistics.median(s[n]) / 1e9 for n in names if s.get(n)}
             for _, s, size in results]
    highest = max(max(r.values()) for r in rates)
    width = left + group * len(results) + 20
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height + top + 64}" '
           'font-family="sans-serif" font-size="11">',
           f'<rect width="{width}" height="{height + top + 64}" fill="white"/>',
           f'<text x="{left}" y="18" font-size="14">Head norm + RoPE, {threads} CPU threads: GB/s '
           'of bytes read and written, the higher the better (logarithmic)</text>']

    def y_of(rate):  # 0.1 GB/s at the bottom
        from math import log10
        return top + height * (1 - max(0, log10(rate / 0.1)) / log10(highest * 1.3 / 0.1))
    rate = 0.1
    while rate <= highest * 1.3:
        out.append(f'<line x1="{left}" x2="{width - 20}" y1="{y_of(rate):.1f}" '
                   f'y2="{y_of(rate):.1f}" stroke="#ddd"/><text x="{left - 6}" '
                   f'y="{y_of(rate) + 4:.1f}" text-anchor="end">{rate:g}</text>')
        rate *= 10
    for i, ((shape, _, _), r) in enumerate(zip(results, rates)):
        x = left + group * i + 13
        for k, name in enumerate(names):
            if name in r:
                out.append(f'<rect x="{x + bar * k}" y="{y_of(r[name]):.1f}" width="{bar - 1}" '
                           f'height="{top + height - y_of(r[name]):.1f}" fill="{COLOURS[name]}">'
                           f'<title>{name}: {r[name]:.2f} GB/s</title></rect>')
        middle = x + bar * len(names) / 2
        out.append(f'<text x="{middle}" y="{top + height + 18}" text-anchor="middle">'
                   f'{shape[0]} x {shape[1]} x {shape[2]}</text><text x="{middle}" '
                   f'y="{top + height + 33}" text-anchor="middle">{shape[3]}</text>')
    for k, name in enumerate(names):
        out.append(f'<rect x="{left + 110 * k}" y="30" width="10" height="10" '
                   f'fill="{COLOURS[name]}"/><text x="{left + 110 * k + 14}" y="39">{name}</text>')
    return "\n".join(out + ["</svg>", ""])


CHARTED = {(1, 4, 256), (1, 16, 256), (512, 4, 256), (4096, 16, 256), (4096, 4, 512)}


def numbers(text):
    return [int(word) for word in text.split(",")]


def main():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--mlxn", default="build/cli/mlxn")
    p.add_argument("--venv", help="virtual environment with torch and llama-cpp-python")
    p.add_argument("--mlx", help="virtual environment with mlx[cpu]")
    p.add_argument("-t", "--threads", type=int, default=2)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--tokens", type=numbers, default=[1, 16, 512, 4096])
    p.add_argument("--heads", type=numbers, default=[4, 16])
    p.add_argument("--dims", type=numbers, default=[128, 256, 512])
    p.add_argument("--dtypes", default="f32,bf16")
    p.add_argument("--angles", choices=["computed", "tables"], default="computed",
                   help="of mlxn; PyTorch always reads tables, ggml and MLX always compute")
    p.add_argument("--svg", help="where the chart goes: five shapes of those measured")
    p.add_argument("--serve", help=argparse.SUPPRESS)
    o = p.parse_args()
    if o.serve:
        serve(o.serve, o.threads)
        return
    shapes = [(t, h, d, dtype) for dtype in o.dtypes.split(",") for d in o.dims for t in o.tokens
              for h in o.heads]
    with tempfile.TemporaryDirectory() as folder:
        peers = start_peers(o, folder)
        names = [peer.name for peer in peers]
        print(f"| shape | dtype | mlxn us | memcpy | {' | '.join(names)} |")
        print("| --- | --- | ---: |" + " ---: |" * (len(names) + 1))
        results = []
        for shape in shapes:
            seconds, size = compare(o, peers, shape)
            print_row(shape, seconds, ["memcpy"] + names)
            results.append((shape, seconds, size))
        for peer in peers:
            peer.close()
    if o.svg:
        chosen = [r for r in results if r[0][:3] in CHARTED] or results
        with open(o.svg, "w", encoding="utf-8") as file:
            file.write(chart(chosen, names, o.threads))


if __name__ == "__main__":
    main()
