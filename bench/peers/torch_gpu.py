#!/usr/bin/env python3
"""torch.compile beside `mlxn bench head-norm-rope --device cuda`, on a GPU.

usage: torch_gpu.py [--mlxn build/cli/mlxn] [--tokens 1,4096,32768]    (an interpreter with torch)

8/4/4 heads of 256 in bf16 as one matrix of q, k and v: RMS norm in f32 over the head, times a
weight but for v, q and k rotated by tables in f32; out of place, as torch.compile gives it (mode
max-autotune-no-cudagraphs).  Both are timed inside a CUDA graph of several calls that take inputs
in turns, so that the cache does not serve them; medians of the replays, in turns with mlxn."""
import argparse
import json
import statistics
import subprocess

import torch

HEADS, KV_HEADS, DIM, REPLAYS = 8, 4, 256, 20


def prepare(qkv, q_weight, k_weight, cosine, sine):
    def norm(x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)

    def turn(x):
        low, high = x.chunk(2, dim=-1)
        return torch.cat((low * cosine - high * sine, high * cosine + low * sine), dim=-1)
    q, k, v = qkv.float().split((HEADS, KV_HEADS, KV_HEADS), dim=1)
    return torch.cat((turn(norm(q) * q_weight), turn(norm(k) * k_weight), norm(v)),
                     dim=1).to(qkv.dtype)


def seconds(call, inputs, outputs, calls):
    """Of a call, in a graph of `calls`."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            outputs[0].copy_(call(inputs[0]))
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for i in range(calls):
            call(inputs[i % len(inputs)])
    took = []
    for _ in range(REPLAYS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        took.append(begin.elapsed_time(end) * 1e-3 / calls)
    return statistics.median(took)


def mlxn_row(mlxn, tokens):
    out = subprocess.run(
        [mlxn, "bench", "head-norm-rope", "--device", "cuda", "--tokens", str(tokens), "--heads",
         str(HEADS), "--kv-heads", str(KV_HEADS), "--head-dim", str(DIM), "--dtype", "bf16",
         "--angles", "tables", "-r", "10", "-o", "json"], stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, check=True).stdout
    return json.loads(out)[0]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mlxn", default="build/cli/mlxn")
    parser.add_argument("--tokens", default="1,4096,32768")
    o = parser.parse_args()
    torch.set_grad_enabled(False)
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}; microseconds")
    for tokens in map(int, o.tokens.split(",")):
        sets = 8 if tokens < 16384 else 2
        inputs = [torch.randn(tokens, HEADS + 2 * KV_HEADS, DIM, device="cuda",
                              dtype=torch.bfloat16) for _ in range(sets)]
        outputs = [torch.empty_like(inputs[0])]
        weights = [torch.rand(DIM, device="cuda") for _ in range(2)]
        angle = torch.arange(tokens, device="cuda")[:, None, None] + 1000.0
        angle = angle * 1e4 ** (-2 * torch.arange(DIM // 2, device="cuda") / DIM)
        cosine, sine = angle.cos(), angle.sin()
        compiled = torch.compile(prepare, dynamic=False, mode="max-autotune-no-cudagraphs")
        calls = 64 if tokens < 1024 else 16
        times = []
        for _ in range(3):
            ours = mlxn_row(o.mlxn, tokens)["seconds"]
            theirs = seconds(lambda x: compiled(x, *weights, cosine, sine), inputs, outputs, calls)
            times.append((theirs / ours, ours, theirs))
        copied = seconds(lambda x: x.clone(), inputs, outputs, calls)
        ratio, ours, theirs = map(statistics.median, zip(*times))
        print(f"{tokens} tokens: mlxn {ours * 1e6:.2f}, torch.compile {theirs * 1e6:.2f}, "
              f"torch's copy {copied * 1e6:.2f}; torch.compile / mlxn {ratio:.2f} "
              f"({min(t[0] for t in times):.2f} to {max(t[0] for t in times):.2f})", flush=True)


if __name__ == "__main__":
    main()
