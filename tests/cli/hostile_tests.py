"""Broken model files through the command: an error that names the file, exit code 1, no crash."""
import os
import random

from harness import check, equal, test
from model_tests import model_path

DATA_OFFSET = 6525120  # where the tensor data of the real file start


def header(mlxn):
    with open(model_path(mlxn), "rb") as model:
        return model.read(DATA_OFFSET)


@test()
def truncated_files(mlxn, options):
    head = header(mlxn)
    lengths = [0, 1, 4, 8, 23, 24, 25, 100, 1000, 100000, len(head) - 1, len(head)]
    for length in lengths if options.full else lengths[::2] + lengths[-1:]:
        path = mlxn.file("truncated.gguf", head[:length])
        for args in (["info", path], ["run", "-m", path, "-p", "x", "-n", 1],
                     ["tokenize", "-m", path], ["score", "-m", path], ["bench", "-m", path]):
            mlxn.fails(*args, says="truncated.gguf")
    os.remove(path)


@test()
def files_that_are_no_gguf(mlxn, _):
    for data in (b"GGUF", b"GGUF\x03\0\0\0" + b"\xff" * 16, b"FUGG" + bytes(100), bytes(4096),
                 b"GGUF\x02\0\0\0" + bytes(16), b"GGUF\x03\0\0\0" + bytes(16)):
        path = mlxn.file("not.gguf", data)
        mlxn.fails("run", "-m", path, "-p", "x", says="not.gguf")
    equal(mlxn.run("run", "-m", "/dev/null", "-p", "x").code, 1)
    fifo = os.path.join(mlxn.folder, "fifo.gguf")
    os.mkfifo(fifo)
    mlxn.fails("info", fifo, says=[fifo, "not a regular file"], timeout=60)  # nobody writes to it


@test()
def tensors_of_unknown_type(mlxn, _):
    """IQ4_NL, which other programs know: the file can be shown, and every use of it names the tensor."""
    name, head = b"token_embd.weight", bytearray(header(mlxn))
    at = head.index(name) + len(name) + 4 + 2 * 8  # behind the rank and two extents
    head[at:at + 4] = (20).to_bytes(4, "little")
    path = mlxn.file("unknown.gguf", head)
    os.truncate(path, os.path.getsize(model_path(mlxn)))
    check("type 20 (not known here)" in mlxn.ok("info", path).text())
    for args in (["run", "-p", "x"], ["bench"], ["bench", "ops", "-r", 1]):
        mlxn.fails(*args, "-m", path, says=["unknown.gguf", "token_embd.weight", "type 20"])
    os.remove(path)


def mutate(rng, head):
    """One to eight changes: a flipped bit, a byte, a 64-bit number gone absurd.  Most fall where
    the structure is, outside the vocabulary's strings and scores."""
    vocabulary = (head.index(b"tokenizer.ggml.tokens"), head.index(b"tokenizer.ggml.bos_token_id"))
    changes = []
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        at = rng.randrange(len(head))
        while vocabulary[0] + 64 < at < vocabulary[1] and rng.random() < 0.95:
            at = rng.randrange(len(head))
        kind = rng.randrange(3)
        if kind == 0:
            new = bytes([head[at] ^ 1 << rng.randrange(8)])
        elif kind == 1:
            new = bytes([rng.choice((0, 1, 0x7f, 0x80, 0xff, rng.randrange(256)))])
        else:
            new = rng.choice((0, 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)).to_bytes(8, "little")
        changes.append((at, new[:len(head) - at]))
    return changes


@test()
def mutated_headers(mlxn, options):
    """500 (a few in the quick tier) changed headers of the real file, in a copy of it.  What may
    still load (a changed word of the vocabulary) must end well, the rest with exit code 1."""
    rng = random.Random(20)
    head = header(mlxn)
    with open(model_path(mlxn), "rb") as model:
        path = mlxn.file("mutated.gguf", model.read())
    refused = 0
    with open(path, "r+b", buffering=0) as file:
        for number in range(500 if options.full else 12):
            changes = mutate(rng, head)
            for at, new in changes:
                file.seek(at)
                file.write(new)
            result = mlxn.run("run", "-m", path, "-p", "a", "-n", 1, "--temp", 0, timeout=120)
            check(result.code in (0, 1), number, changes, "exit code", result.code)
            if result.code:
                refused += 1
                check(result.err.startswith("mlxn: "), number, changes, result.err)
                equal(result.out, b"", changes)
            for at, new in changes:
                file.seek(at)
                file.write(head[at:at + len(new)])
    os.remove(path)
    check(refused > 0, "no mutation was refused")
