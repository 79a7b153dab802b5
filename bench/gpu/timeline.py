#!/usr/bin/env python3
"""Draws the output of `mlxn bench step -o json` as an SVG: the launches of a decode step in order,
each as long as it takes beyond an empty kernel, with the mean step from one launch to the next
between them.  usage: timeline.py STEP.json OUT.svg"""
import json
import sys
from html import escape

WIDTH, MARGIN, LINE_HEIGHT, BAR = 1200, 40, 46, 26
COLOURS = ["#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#994455",
           "#997700", "#6699cc"]


def lines_of(launches, gap, lines):
    """(line, start, length, launch) with times in microseconds; each line has the same span."""
    total = sum(1e6 * launch["seconds"] + gap for launch in launches)
    span, at, placed = total / lines, 0.0, []
    for launch in launches:
        line = min(int(at / span), lines - 1)
        placed.append((line, at - line * span, 1e6 * launch["seconds"], launch))
        at += 1e6 * launch["seconds"] + gap
    return span, placed


def draw(step):
    launches = step["launches"]
    busy = sum(launch["seconds"] for launch in launches)
    device = step["device_step_seconds"]
    gap = max(0.0, 1e6 * (device - busy) / len(launches))
    kernels = sorted({launch["kernel"] for launch in launches},
                     key=lambda k: -sum(x["seconds"] for x in launches if x["kernel"] == k))
    colour = {kernel: COLOURS[i % len(COLOURS)] for i, kernel in enumerate(kernels)}
    lines = 6
    span, placed = lines_of(launches, gap, lines)
    scale = (WIDTH - 2 * MARGIN) / span
    height = MARGIN * 2 + lines * LINE_HEIGHT + 22 * ((len(kernels) + 3) // 4) + 20
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
           'font-family="sans-serif" font-size="13">',
           f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
           f'<text x="{MARGIN}" y="24" font-size="15">A decode step on {escape(step["device"])}, '
           f'{step["matmul"]}: {1e6 * device:.0f} µs, {len(launches)} launches of '
           f'{1e6 * busy:.0f} µs, {gap:.2f} µs from one to the next</text>']
    for line in range(lines):
        y = MARGIN + line * LINE_HEIGHT
        out.append(f'<line x1="{MARGIN}" x2="{WIDTH - MARGIN}" y1="{y + BAR}" y2="{y + BAR}" '
                   'stroke="#999"/>')
        out.append(f'<text x="{MARGIN}" y="{y + BAR + 13}" font-size="10" fill="#555">'
                   f'{line * span:.0f} µs</text>')
    for line, start, length, launch in placed:
        rate = launch["bytes"] / launch["seconds"] / 1e9 if launch["seconds"] else 0
        title = (f'{launch["kernel"]} ({launch["entry"]}): {length:.2f} µs, '
                 f'{launch["bytes"] / 1024:.0f} KiB, {rate:.0f} GB/s')
        out.append(f'<rect x="{MARGIN + start * scale:.2f}" y="{MARGIN + line * LINE_HEIGHT}" '
                   f'width="{max(0.5, length * scale):.2f}" height="{BAR}" '
                   f'fill="{colour[launch["kernel"]]}"><title>{escape(title)}</title></rect>')
    top = MARGIN + lines * LINE_HEIGHT + 20
    for i, kernel in enumerate(kernels):
        x, y = MARGIN + 285 * (i % 4), top + 22 * (i // 4)
        share = sum(launch["seconds"] for launch in launches if launch["kernel"] == kernel) / device
        out.append(f'<rect x="{x}" y="{y}" width="14" height="14" fill="{colour[kernel]}"/>')
        out.append(f'<text x="{x + 20}" y="{y + 12}">{escape(kernel)} {100 * share:.0f}%</text>')
    out.append("</svg>\n")
    return "\n".join(out)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as file:
        svg = draw(json.load(file))
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        file.write(svg)


if __name__ == "__main__":
    main()
