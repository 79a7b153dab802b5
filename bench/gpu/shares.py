#!/usr/bin/env python3
"""Draws the outputs of `mlxn bench head-norm-rope -o json` as an SVG: the rate of each over the
number of tokens, as a share of the copy of its run.  usage: shares.py OUT.svg LABEL=FILE.json ..."""
import json
import math
import sys
from html import escape

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 760, 360, 60, 40, 50
COLOURS = ["#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377"]


def read(path):
    """(tokens, share) of each row, by tokens."""
    with open(path, encoding="utf-8") as file:
        return sorted((row["tokens"], 1 / row["copy_ratio"]) for row in json.load(file))


def draw(lines):
    most = max(tokens for _, points in lines for tokens, _ in points)

    def x_of(tokens):
        return LEFT + math.log2(tokens) / max(1, math.log2(most)) * (WIDTH - LEFT - 20)

    def y_of(share):
        return TOP + (1 - min(share, 1.1) / 1.1) * (HEIGHT - TOP - BOTTOM)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
           'font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
           f'<text x="{LEFT}" y="20">share of the copy\'s rate over tokens</text>']
    for tenth in range(0, 11, 2):
        y = y_of(tenth / 10)
        out.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - 20}" stroke="#ddd"/>'
                   f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tenth / 10:.1f}</text>')
    for tokens in sorted({tokens for _, points in lines for tokens, _ in points}):
        out.append(f'<text x="{x_of(tokens):.1f}" y="{HEIGHT - BOTTOM + 18}" '
                   f'text-anchor="middle">{tokens}</text>')
    for i, (label, points) in enumerate(lines):
        colour = COLOURS[i % len(COLOURS)]
        path = "L".join(f"{x_of(tokens):.1f} {y_of(share):.1f}" for tokens, share in points)
        out.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{x_of(tokens):.1f}" cy="{y_of(share):.1f}" r="3" fill="{colour}"/>'
                for tokens, share in points]
        x = LEFT + i * (WIDTH - LEFT - 20) / len(lines)
        out.append(f'<text x="{x:.1f}" y="{HEIGHT - 10}" fill="{colour}">{escape(label)}</text>')
    return "\n".join(out + ["</svg>", ""])


def main():
    if len(sys.argv) < 3 or not all("=" in word for word in sys.argv[2:]):
        sys.exit(__doc__)
    lines = [(label, read(path)) for label, path in (word.split("=", 1) for word in sys.argv[2:])]
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        file.write(draw(lines))


if __name__ == "__main__":
    main()
