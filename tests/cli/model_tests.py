"""run, score, tokenize, info, bench on the real model."""
import hashlib
import json
import os
import signal
import subprocess
import time

from harness import Failed, check, equal, test

DATA = os.path.join(os.path.dirname(__file__), "../data")
NAME = "gemma-3-270m-q4_k_m.gguf"


def model_path(mlxn):
    """What -m without a value stands for, or $MLXN_TEST_MODEL."""
    given = os.environ.get("MLXN_TEST_MODEL")
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    path = given or os.path.join(cache, "mlxn/models", NAME)
    check(os.path.exists(path), f"no model at {path}: `mlxn pull gemma3-270m` fetches it")
    return path


def data(name):
    with open(os.path.join(DATA, name), encoding="utf-8") as file:
        return json.load(file)


def greedy(mlxn, *args, **kwargs):
    return mlxn.ok("run", "-m", model_path(mlxn), "--temp", 0, *args, **kwargs)


@test()
def tokenizer_golden(mlxn, options):
    model = ["-m", model_path(mlxn)]
    rows = data("gemma3_tokenizer_dev.json")["rows"]
    for row in rows if options.full else rows[::8]:
        text = row["s"].encode()
        equal(mlxn.ok("tokenize", *model, stdin=text).lines(), [row["ids"]], repr(row["s"]))
        equal(mlxn.ok("tokenize", *model, "--bos", stdin=text).lines(), [[2] + row["ids"]])
        if "ids_special" in row:
            equal(mlxn.ok("tokenize", *model, "--special", stdin=text).lines(),
                  [row["ids_special"]], repr(row["s"]))
        back = mlxn.ok("tokenize", *model, "--decode", stdin=json.dumps(row["ids"]).encode())
        equal(back.text(), row.get("back", row["s"]))


@test()
def tokenize_bytes_and_bad_json(mlxn, _):
    model = ["-m", model_path(mlxn)]
    raw = b"a\xff\xfe\x00\xe2\x82z"
    ids = mlxn.ok("tokenize", *model, stdin=raw).out
    equal(mlxn.ok("tokenize", *model, "--decode", stdin=ids).out, raw)
    equal(mlxn.ok("tokenize", *model).out, b"[]\n")
    equal(mlxn.ok("tokenize", *model, "--decode", stdin=b" [ ] ").out, b"")
    for bad in (b"", b"[", b"[1", b"[1,", b"[1,]", b"[,1]", b"1", b"[1.5]", b"[1e3]", b"[01]", b"[+1]",
                b"[-]", b"[1] 2", b"[[1]]", b"[null]", b'["1"]', b"{}", b"[2147483648]", b"[1 2]"):
        mlxn.fails("tokenize", *model, "--decode", stdin=bad, says="expected")
    mlxn.fails("tokenize", *model, "--decode", stdin=b"[262144]", says="262144")
    mlxn.fails("tokenize", *model, "--decode", stdin=b"[-1]", says="-1")


@test()
def info_of_the_model(mlxn, _):
    text = mlxn.ok("info", model_path(mlxn)).text()
    for line in ('"gemma3.block_count": u32 = 18', '"general.architecture": string = "gemma3"',
                 '"token_embd.weight": q8_0 [262144, 640], 178257920 bytes at', "tensors: 236",
                 "in all: 268098176 parameters"):
        check(line in text, "no", line)


@test()
def run_prints_prompt_and_continuation(mlxn, _):
    prompt = "The capital of France is"
    whole = greedy(mlxn, "-p", prompt, "-n", 8)
    check(whole.text().startswith(prompt + " the capital"), whole.text())
    check(whole.text().endswith("\n"))
    for word in ("prompt 6 tokens", "generated 8 tokens", "ended by -n", "seed ", "dispatches",
                 "barriers", "peak memory", "device cpu", "SIMD path"):
        check(word in whole.err, "the summary lacks", word, whole.err)
    bare = greedy(mlxn, "-p", prompt, "-n", 8, "--no-display-prompt")
    equal(prompt + bare.text(), whole.text())
    path = mlxn.file("prompt.txt", prompt.encode())
    equal(greedy(mlxn, "-f", path, "-n", 8).out, whole.out)
    equal(greedy(mlxn, "-n", 8, stdin=prompt.encode()).out, whole.out)
    check("first token" in whole.err and "first_token_seconds" in
          greedy(mlxn, "-p", prompt, "-n", 1, "--output", "jsonl").lines()[-1])
    none = greedy(mlxn, "-p", prompt, "-n", 0)
    equal(none.text(), prompt + "\n")
    check("generated 0 tokens" in none.err and "first token" not in none.err and
          " 0 dispatches" not in none.err, none.err)
    equal(sorted(key for key in greedy(mlxn, "-p", prompt, "-n", 0, "--output", "jsonl").lines()[-1]
                 if key.startswith("first")), [])
    # neither threads nor pieces change a bit
    for more in (["-t", 1, "--chunk", 2], ["-t", 3, "-c", 0, "--device", "cpu:0"]):
        equal(greedy(mlxn, "-p", prompt, "-n", 8, *more).out, whole.out, more)


@test()
def run_jsonl(mlxn, _):
    prompt = "The capital of France is"
    text = greedy(mlxn, "-p", prompt, "-n", 12, "--no-display-prompt").text()
    for matmul in ("exact", "fast"):
        result = greedy(mlxn, "-p", prompt, "-n", 12, "--matmul", matmul, "--output", "jsonl",
                        "--top-logits", 5)
        *tokens, summary = result.lines()
        equal(len(tokens), 12)
        for token in tokens:
            equal(sorted(token), ["id", "logit", "text", "top"])
            equal(len(token["top"]), 5)
            equal(token["top"], sorted(token["top"], key=lambda t: (-t[1], t[0])))
            equal(token["top"][0], [token["id"], token["logit"]])
        joined = "".join(t["text"] for t in tokens) + summary.get("tail", "")
        if matmul == "fast":
            equal(joined + "\n", text)
        equal((summary["prompt_tokens"], summary["generated_tokens"]), (6, 12))
        equal((summary["reason"], summary["matmul"], summary["device"]), ("length", matmul, "cpu"))
        for key in ("prompt_seconds", "generated_seconds", "dispatches_per_token",
                    "barriers_per_token", "peak_memory_bytes"):
            check(summary[key] > 0, key, summary)
        check(summary["simd_path"], summary)
    equal(greedy(mlxn, "-p", prompt, "-n", 1, "--output", "jsonl").lines()[0]["top"], [])


@test()
def run_exact_agrees_with_the_reference(mlxn, options):
    prompts = data("gemma3_greedy_dev.json")["prompts"]
    for prompt in prompts if options.full else prompts[:1]:
        ref = prompt["ref"]
        result = greedy(mlxn, "-f", mlxn.file("p.txt", prompt["prompt"].encode()), "-n", 48,
                        "--matmul", "exact", "--output", "jsonl", "--top-logits", 5, "--ignore-eos")
        *tokens, summary = result.lines()
        equal(summary["prompt_tokens"], len(prompt["ids"]), prompt["name"])
        for step, token in enumerate(tokens):
            if step == 0:
                for (_, got), want in zip(token["top"], ref["top5"]["logit"]):
                    check(abs(got - want) < 0.02, prompt["name"], "logit", got, "not", want)
            if token["id"] != ref["next_forced"][step]:
                check(ref["margin"][step] <= 0.02, prompt["name"], "step", step)
            if token["id"] != prompt["next"][step]:
                break  # from here on it is another text


@test()
def run_ends_at_the_end_token(mlxn, _):
    # a text that the model finds to be complete after a few tokens
    args = ["-p", "int main(void)\n{\n    return", "-n", 24, "--matmul", "exact", "--output", "jsonl"]
    *tokens, summary = greedy(mlxn, *args).lines()
    equal((summary["reason"], summary["end_token"]), ("end", 1))
    check(0 < len(tokens) < 24 and all(t["id"] != 1 for t in tokens), tokens)
    *more, summary = greedy(mlxn, *args, "--ignore-eos").lines()
    equal((summary["reason"], len(more)), ("length", 24))
    equal([t["id"] for t in more[:len(tokens) + 1]], [t["id"] for t in tokens] + [1])


@test()
def run_at_the_end_of_the_context(mlxn, _):
    result = greedy(mlxn, "-p", "The capital of France is", "-c", 16, "--ignore-eos")
    check("ended by the end of the context" in result.err, result.err)
    lines = greedy(mlxn, "-p", "The capital of France is", "-c", 16, "--ignore-eos", "--output",
                   "jsonl").lines()
    equal((lines[-1]["reason"], lines[-1]["generated_tokens"]), ("context", 11))
    model = model_path(mlxn)
    mlxn.fails("run", "-m", model, "-p", "a b c d e f g h", "-c", 4, says=["9 tokens", "context 4"])
    equal(greedy(mlxn, "-p", "a b c d e f g h", "-c", 9, "-n", 4, "--output", "jsonl").lines()[-1]
          ["reason"], "context")
    mlxn.fails("run", "-m", model, "-p", "x", "-c", 999999, says=["999999", "32768"])


@test()
def run_of_an_empty_prompt_is_bos(mlxn, _):
    for args, stdin in ((["-p", ""], b""), ([], b"")):
        *tokens, summary = greedy(mlxn, *args, "-n", 3, "--output", "jsonl", stdin=stdin).lines()
        equal((len(tokens), summary["prompt_tokens"]), (3, 1))


@test()
def run_draws_by_seed(mlxn, _):
    args = ["run", "-m", model_path(mlxn), "-p", "Once upon a time", "-n", 6, "--output", "jsonl"]

    def ids(*more):
        *tokens, summary = mlxn.ok(*args, *more).lines()
        return [t["id"] for t in tokens], summary["seed"]
    first, seed = ids()
    again, same = ids("-s", seed)
    equal((again, same), (first, seed))
    others = {tuple(ids("--seed", s, "--temp", 2, "--top-k", 0, "--top-p", 1, "--min-p", 0)[0])
              for s in range(3)}
    equal(len(others), 3, "three seeds at high temperature")
    best = ids("--temp", 0)[0]
    for narrow in (["--top-k", 1], ["--top-p", 0], ["--top-p", 1e-300], ["--min-p", 1]):
        equal(ids("-s", 1, *narrow)[0], best, narrow)
    check(ids("--temp", 0, "--repeat-penalty", 1.5, "-n", 24)[0] != ids("--temp", 0, "-n", 24)[0])


def start(mlxn, *args, **kwargs):
    return subprocess.Popen([mlxn.path, "run", "-m", model_path(mlxn), *map(str, args)],
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, **kwargs)


@test()
def run_ends_by_interrupt_with_its_summary(mlxn, _):
    process = start(mlxn, "-p", "Once", "--ignore-eos", "-c", 0, "--temp", 0)
    process.stdout.read(16)  # it writes: the generation is on
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    equal(process.returncode, 0, err)
    check(b"ended by Ctrl-C" in err and out.endswith(b"\n"), err)
    out.decode("utf-8")
    process = start(mlxn, "-p", "Once", "--ignore-eos", "-c", 0, "--output", "jsonl")
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    equal((process.returncode, json.loads(out.splitlines()[-1])["reason"]), (0, "interrupted"), err)


@test()
def run_interrupted_while_its_reader_sleeps(mlxn, _):
    process = start(mlxn, "-p", "Once", "--ignore-eos", "-c", 0, "--output", "jsonl",
                    "--top-logits", 3000)
    process.stdout.read(1)
    time.sleep(0.5)  # a pipe holds one or two of its lines
    process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    out, err = process.communicate(timeout=60)
    equal((process.returncode, json.loads(out.splitlines()[-1])["reason"]), (0, "interrupted"), err)


@test()
def run_into_a_closed_pipe_is_quiet(mlxn, _):
    for output in ("text", "jsonl"):
        process = start(mlxn, "-p", "Once", "--ignore-eos", "-c", 0, "--output", output)
        process.stdout.read(16)
        process.stdout.close()
        begin = time.time()
        err = process.stderr.read()
        equal((process.wait(timeout=60), err), (0, b""))
        check(time.time() - begin < 30, "it went on")
        process.stderr.close()
    with open("/dev/full", "wb") as full:
        done = subprocess.run([mlxn.path, "run", "-m", model_path(mlxn), "-p", "x", "-n", "3"],
                              stdout=full, stderr=subprocess.PIPE)
    equal(done.returncode, 1)
    check(b"standard output" in done.stderr, done.stderr)


@test()
def run_with_a_device_that_is_not(mlxn, _):
    for device in ("nosuch", "cpu:9"):  # one that is malformed is wrong usage
        mlxn.fails("run", "-m", model_path(mlxn), "-p", "x", "--device", device)


def check_scores(mlxn, matmul, off):
    golden = data("gemma3_nll.json")
    path = os.path.join(DATA, "nll_text.txt")
    result = mlxn.ok("score", "-m", model_path(mlxn), "-f", path, "--matmul", matmul, "--output",
                     "jsonl", "--top-logits", 3)
    *rows, summary = result.lines()
    equal([r["pos"] for r in rows], list(range(1, golden["n_tokens"])))
    equal(summary["tokens_scored"], golden["n_scored"])
    nll = [-r["logprob"] for r in rows]
    check(abs(summary["mean_nll"] - sum(nll) / len(nll)) < 1e-6, summary)
    check(abs(summary["mean_nll"] - golden["ref_mean"]) < off, summary, golden["ref_mean"])
    for row in rows:
        equal(row["top"], sorted(row["top"], key=lambda t: (-t[1], t[0])))
    if matmul == "exact":
        worst = max(abs(a - b) for a, b in zip(nll, golden["ref"]))
        check(worst < 0.02, "a token's likelihood is off by", worst)
    return rows, summary


@test()
def score_golden(mlxn, _):
    rows, summary = check_scores(mlxn, "exact", 0.002)
    check_scores(mlxn, "fast", 0.01)
    # the same from ids, in other pieces, and as text
    model = ["-m", model_path(mlxn), "--matmul", "exact"]
    with open(os.path.join(DATA, "nll_text.txt"), "rb") as file:
        text = file.read()
    ids = json.loads(mlxn.ok("tokenize", "-m", model_path(mlxn), "--bos", stdin=text).out)
    equal(ids, [2] + [r["id"] for r in rows])
    again = mlxn.ok("score", *model, "--ids", "-", "--output", "jsonl", "--chunk", 17,
                    stdin=json.dumps(ids[:60]).encode())
    *same, total = again.lines()
    equal([r["logprob"] for r in same], [r["logprob"] for r in rows[:59]])
    plain = mlxn.ok("score", *model, stdin=mlxn.ok("tokenize", "-m", model_path(mlxn), "--decode",
                                                   stdin=json.dumps(ids[1:60]).encode()).out)
    check(f"mean nll      {total['mean_nll']:.6f}" in plain.text(), plain.text())


@test()
def score_of_little_and_of_too_much(mlxn, _):
    model = ["-m", model_path(mlxn)]
    for args, stdin in ((["--ids", "-"], b"[]"), (["--ids", "-"], b"[5]"), ([], b"")):
        row, = mlxn.ok("score", *model, *args, "--output", "jsonl", stdin=stdin).lines()
        equal((row["tokens_scored"], row["mean_nll"]), (0, None))
        plain = mlxn.ok("score", *model, *args, stdin=stdin)
        equal(plain.text(), "tokens scored 0\n")
        check("no token to score" in plain.err, plain.err)
    mlxn.fails("score", *model, "-c", 4, stdin=b"a b c d e f", says=["7 tokens", "context 4"])
    mlxn.fails("score", *model, "--ids", "-", stdin=b"[2,262144]", says=["262144", "id 1"])
    mlxn.fails("score", *model, "--ids", "-", stdin=b"[2,-1]", says="-1")
    mlxn.fails("score", *model, "--ids", "-", stdin=b"2,3", says="expected")


@test()
def bench_md_and_json(mlxn, _):
    args = ["bench", "-m", model_path(mlxn), "-p", "16,8", "-n", 4, "-r", 2, "-t", "1,2"]
    table = mlxn.ok(*args).text().splitlines()
    head = [c.strip() for c in table[0].strip("|").split("|")]
    equal(head, ["model", "size", "params", "backend", "threads", "test", "t/s"])
    equal([[c.strip() for c in row.strip("|").split("|")][4:6] for row in table[2:]],
          [[t, n] for t in "12" for n in ("pp16", "pp8", "tg4")])
    equal({len(row) for row in table}, {len(table[0])}, "rows of unequal length")
    check(all(" \u00b1 " in row for row in table[2:]))
    rows = json.loads(mlxn.ok(*args, "-o", "json").out)
    equal([(r["n_prompt"], r["n_gen"], r["n_threads"]) for r in rows],
          [(p, g, t) for t in (1, 2) for p, g in ((16, 0), (8, 0), (0, 4))])
    for row in rows:
        equal(len(row["samples_ts"]), 2)
        check(abs(row["avg_ts"] - sum(row["samples_ts"]) / 2) < 1e-3 * row["avg_ts"], row)
        check(row["avg_ts"] > 0 and row["stddev_ts"] >= 0)
        equal(row["model_n_params"], 268098176)
        for key in ("model_filename", "model_size", "backends", "test", "avg_ns", "samples_ns"):
            check(key in row, "no", key)


@test()
def bench_ops_lists_the_operators(mlxn, _):
    args = ["bench", "ops", "-m", model_path(mlxn), "-r", 1]
    rows = json.loads(mlxn.ok(*args, "-o", "json").out)
    names = [r["op"] for r in rows]
    for name in ("embedding", "rms_norm", "qkv_prepare", "attention", "norm_add", "gelu_mul",
                 "matmul attn_q", "matmul ffn_down", "matmul output", "matmul_group gate+up",
                 "argmax", "sample"):
        check(name in names, "no", name)
    for row in rows:
        check(row["seconds"] > 0 and row["bytes"] > 0 and row["read_share"] > 0, row)
        share = row["bytes_per_second"] / row["read_bandwidth"]
        check(abs(share - row["read_share"]) < 1e-5 * share + 1e-5, row)
        # seconds are printed in whole nanoseconds
        bytes_per_second = row["bytes"] / row["seconds"]
        check(abs(bytes_per_second / row["bytes_per_second"] - 1) < 1e-9 / row["seconds"], row)
    equal(len(mlxn.ok(*args).text().splitlines()), len(rows) + 2)


@test()
def bench_step_needs_a_gpu(mlxn, _):
    mlxn.fails("bench", "step", "-m", model_path(mlxn), "--device", "cpu", "-r", 1,
               says="not on cpu devices")


@test(full=True)
def a_megabyte_tokenises_quickly(mlxn, _):
    text = ("All work and no play. \u00e4\u00f6\u00fc \u4f60\u597d 12345\n" * 25000).encode()[:1000000]
    model = ["-m", model_path(mlxn)]
    base, begin = [], 0
    for stdin in (b"a", text):
        begin = time.time()
        mlxn.ok("tokenize", *model, stdin=stdin)
        base.append(time.time() - begin)
    check(base[1] - base[0] < 1.0, "took", base)
    result = mlxn.run("run", *model, "-f", mlxn.file("big.txt", text), "-n", 1)
    equal(result.code, 1)
    if "context 2048" not in result.err:
        raise Failed(result.err)


@test()
def screen_changes_no_token(mlxn, _):
    model, cache = model_path(mlxn), {"XDG_CACHE_HOME": mlxn.folder}
    for extra in (["--temp", 0], ["-s", 5], ["-s", 6, "--top-k", 100]):
        args = ["run", "-m", model, "-n", 12, "-p", "The capital of France is", *extra]
        equal(mlxn.ok(*args, "--screen", env=cache).out, mlxn.ok(*args).out)
    with open(model, "rb") as file:
        key = hashlib.sha256(file.read()).hexdigest()
    equal(os.listdir(os.path.join(mlxn.folder, "mlxn/screens")), [key])
    rows = json.loads(mlxn.ok("bench", "-m", model, "-p", 0, "-n", 4, "-r", 1, "--screen", "-o",
                              "json", env=cache).out)
    equal([row["test"] for row in rows], ["tg-greedy4"])
    args = ["run", "-m", model, "-n", 4, "--temp", 0, "-p", "One", "--output", "jsonl",
            "--top-logits", 5]
    equal(mlxn.ok(*args, "--screen", env=cache).lines()[:-1], mlxn.ok(*args).lines()[:-1])
    mlxn.fails("run", "-m", model, "--screen", "--temp", 0, "-p", "x", says="/dev/null/mlxn",
               env={"XDG_CACHE_HOME": "/dev/null"})


@test()
def screen_of_a_model_pulled_anew(mlxn, _):
    """The model is read once more, and then its screen is the younger again."""
    cache = {"XDG_CACHE_HOME": os.path.join(mlxn.folder, "anew")}
    model = os.path.join(mlxn.folder, "anew/mlxn/models", NAME)
    os.makedirs(os.path.dirname(model))
    os.symlink(os.path.realpath(model_path(mlxn)), model)
    args = ["run", "--screen", "--temp", 0, "-n", 1, "-p", "One"]
    mlxn.ok(*args, env=cache)
    folder = os.path.join(mlxn.folder, "anew/mlxn/screens")
    screen, = (os.path.join(folder, name) for name in os.listdir(folder))
    os.utime(screen, (0, 0))  # older than the model
    mlxn.ok(*args, env=cache)
    marked = os.stat(screen).st_mtime_ns
    check(marked > os.stat(model).st_ctime_ns, marked)
    mlxn.ok(*args, env=cache)
    equal(os.stat(screen).st_mtime_ns, marked, "read again")


@test()
def screen_usage(mlxn, _):
    for bad in (["--top-k", 0], ["--top-k", 2000], ["--temp", 0, "--repeat-penalty", 1.1],
                ["--temp", 0, "--output", "jsonl", "--top-logits", 2000]):
        mlxn.fails("run", "--screen", "-p", "x", *bad, code=2, says="--screen needs")
