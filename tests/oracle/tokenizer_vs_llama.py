#!/usr/bin/env python3
"""Compares the tokenizer with llama.cpp's, through llama-cpp-python, on generated strings.

    tokenizer_vs_llama.py LIBMLXN.so MODEL.gguf [--count N] [--seed S]

Each string is encoded with and without special tokens parsed, and the ids decoded again; ids and
bytes must be the same.  Prints every difference and ends with the number of them.
"""
import argparse
import ctypes as c
import random
import sys

SPECIALS = ["<bos>", "<eos>", "<pad>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>",
            "<unused0>", "<unused6241>", "<start_of_image>", "<end_of_image>", "[multimodal]",
            "</s>", "<0x0A>", "<0xff>", "<s>"]
TAGS = ["<table>", "</table>", "<tr>", "<td>", "<h1>", "</h6>", "<p>", "<strong>", "<code>", "</a>",
        "<br>", "<li>", "<caption>", "<thead>", "<sub>", "</sup>", "<blockquote>", "<div class='x'>"]
WORDS = """the of and to in is was for tokenizer embedding Paris London 2024 3.14159 hello WORLD
don't it's naïve café Straße Ångström coöperate résumé señor crème brûlée internationalization
http://example.org/a?b=c&d=e user@example.org C:\\Windows\\System32 /usr/local/bin __init__ snake_case
camelCase SCREAMING_CASE 0xDEADBEEF 1,000,000 50% $99.99 #hashtag @name e.g. i.e. etc... wow!!! ???
supercalifragilisticexpialidocious antidisestablishmentarianism lorem ipsum dolor sit amet""".split()
CODE = ["int main(void)\n{\n\treturn 0;\n}\n", "for (size_t i = 0; i < n; i++)\n    a[i] += b[i];\n",
        "def f(x):\n    return x ** 2\n\n\n", "#include <stdio.h>\n", "SELECT * FROM t WHERE a >= 1;",
        "{\"key\": [1, 2.5, null, true]}", "<html><body>Hi</body></html>", "x = y ? z : w; // why\n",
        "if __name__ == '__main__':\n        main()\n", "\\frac{a}{b} \\sum_{i=0}^{n}", "a && b || !c",
        "template <typename T> class X : public Y<T>> {};", "fn main() -> Result<(), Box<dyn E>> {}"]
RANGES = [(0x20, 0x7e), (0xa0, 0x17f), (0x370, 0x3ff), (0x400, 0x4ff), (0x530, 0x58f),
          (0x590, 0x5ff), (0x600, 0x6ff), (0x900, 0x97f), (0x980, 0x9ff), (0xb80, 0xbff),
          (0xe00, 0xe7f), (0x10a0, 0x10ff), (0x1100, 0x11ff), (0x1780, 0x17ff), (0x1e00, 0x1fff),
          (0x2000, 0x206f), (0x20a0, 0x20bf), (0x2190, 0x22ff), (0x2500, 0x25ff), (0x3040, 0x30ff),
          (0x4e00, 0x9fff), (0xac00, 0xd7a3), (0xe000, 0xe0ff), (0xfb50, 0xfdff), (0xff00, 0xffef),
          (0x10000, 0x100ff), (0x1d400, 0x1d7ff), (0x1f300, 0x1faff), (0x20000, 0x2a6df)]
EMOJI = ["👩‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇫🇷", "❤️‍🔥", "1️⃣", "👨‍💻", "😀", "🧑🏿‍🚀", "e\u0301", "\u200b",
         "\ufeff", "\u2028", "\u00a0"]


def script(r):
    low, high = r.choice(RANGES)
    return "".join(chr(r.randint(low, high)) for _ in range(r.randint(1, 12)))


def runs(r):
    return "".join(r.choice(" \n\t\r▁") * r.choice([1, 1, 2, 3, 4, 7, 16, 30, 31, 32, 33, 47, 62, 63,
                                                    100]) for _ in range(r.randint(1, 4)))


def special(r):
    text = r.choice(SPECIALS + TAGS)
    if r.random() < 0.2:
        at = r.randrange(len(text))
        text = text[:at] + r.choice(["", " ", text[at] * 2, "<", ">"]) + text[at + 1:]
    return text


def invalid(r):
    kind = r.randrange(4)
    if kind == 0:
        return bytes(r.randrange(256) for _ in range(r.randint(1, 8)))
    if kind == 1:
        text = script(r).encode("utf-8")
        return text[:r.randint(0, len(text))]
    if kind == 2:
        return r.choice([b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xff\xfe", b"\xe2\x96",
                         b"\x80\x81", b"\xf8\x88\x80\x80\x80", b"\xc3(", b"\xf0\x9f\x98", b"\x00"])
    return bytes([r.randrange(128, 256)]) + r.choice(WORDS).encode()


def piece(r, vocabulary):
    kind = r.randrange(10)
    if kind <= 2:
        return (r.choice(["", " "]) + r.choice(WORDS)).encode()
    if kind == 3:
        return script(r).encode()
    if kind == 4:
        return runs(r).encode()
    if kind == 5:
        return special(r).encode()
    if kind == 6:
        return r.choice(CODE).encode()
    if kind == 7:
        return r.choice(EMOJI).encode()
    if kind == 8:
        return r.choice(vocabulary)
    return invalid(r)


def strings(count, seed, vocabulary):
    r = random.Random(seed)
    yield from (s.encode() for s in SPECIALS + TAGS + CODE + EMOJI)
    yield from (ch.encode() * n for ch in " \n\t▁a<" for n in range(1, 101))
    yield from (bytes([b]) for b in range(256))
    for _ in range(count):
        yield b"".join(piece(r, vocabulary) for _ in range(r.randint(1, 12)))


class Ours:
    def __init__(self, library, model):
        self.lib = c.CDLL(library)
        self.lib.mlxn_last_error.restype = c.c_char_p
        gguf, self.t = c.c_void_p(), c.c_void_p()
        self.check(self.lib.mlxn_gguf_open(model.encode(), c.byref(gguf)))
        self.check(self.lib.mlxn_tokenizer_create(gguf, c.byref(self.t)))
        self.lib.mlxn_gguf_release(gguf)
        self.size = self.lib.mlxn_tokenizer_vocab_size(self.t)

    def check(self, status):
        if status:
            sys.exit(f"status {status}: {self.lib.mlxn_last_error().decode()}")

    def encode(self, text, parse):
        ids, count = (c.c_int32 * (len(text) * 4 + 8))(), c.c_size_t()
        self.check(self.lib.mlxn_tokenizer_encode(self.t, text, c.c_size_t(len(text)), 2 * parse, ids,
                                                  c.c_size_t(len(ids)), c.byref(count)))
        return list(ids[:count.value])

    def decode(self, ids, special):
        array, count = (c.c_int32 * max(1, len(ids)))(*ids), c.c_size_t()
        room = c.create_string_buffer(len(ids) * 64 + 64)
        self.check(self.lib.mlxn_tokenizer_decode(self.t, array, c.c_size_t(len(ids)), 2 * special,
                                                  room, c.c_size_t(len(room)), c.byref(count)))
        return room.raw[:count.value]

    def ends(self):
        return [i for i in range(self.size) if self.lib.mlxn_tokenizer_is_end(self.t, i)]


class Llama:
    def __init__(self, model):
        import llama_cpp
        self.api = llama_cpp
        self.model = llama_cpp.Llama(model, vocab_only=True, verbose=False)
        self.vocab = llama_cpp.llama_model_get_vocab(self.model.model)
        self.size = llama_cpp.llama_vocab_n_tokens(self.vocab)

    def encode(self, text, parse):
        return self.model.tokenize(text, add_bos=False, special=bool(parse))

    def decode(self, ids, special):
        array = (self.api.llama_token * max(1, len(ids)))(*ids)
        room = c.create_string_buffer(len(ids) * 64 + 64)
        n = self.api.llama_detokenize(self.vocab, array, len(ids), room, len(room), False,
                                      bool(special))
        assert n >= 0, n
        return room.raw[:n]

    def ends(self):
        return [i for i in range(self.size) if self.api.llama_vocab_is_eog(self.vocab, i)]


def main():
    options = argparse.ArgumentParser()
    options.add_argument("library")
    options.add_argument("model")
    options.add_argument("--count", type=int, default=4000)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--vocabulary", action="store_true", help="every token's text as well")
    options = options.parse_args()
    ours, llama = Ours(options.library, options.model), Llama(options.model)
    vocabulary = [ours.decode([i], 1) for i in range(ours.size)]
    different = int(ours.ends() != llama.ends())
    if different:
        print("end tokens", ours.ends(), llama.ends())
    for i, text in enumerate(vocabulary):
        if text != llama.decode([i], 1):
            different += 1
            print("token", i, text, llama.decode([i], 1))
    compared = 0
    texts = list(strings(options.count, options.seed, vocabulary))
    texts += vocabulary if options.vocabulary else []
    for text in texts:
        for parse in (0, 1):
            got, want = ours.encode(text, parse), llama.encode(text, parse)
            pairs = [("ids", got, want)]
            pairs += [("text", ours.decode(want, s), llama.decode(want, s)) for s in (0, 1)]
            compared += 1
            for what, a, b in pairs:
                if a != b:
                    different += 1
                    print(what, "of", text, "special", parse, "\n  ours ", a, "\n  llama", b)
    print(f"{compared} encodings compared, {len(vocabulary)} tokens, {different} differences")
    return different != 0


if __name__ == "__main__":
    sys.exit(main())
