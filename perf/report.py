"""What the reports of perf/ share: looking things up in a result, rows of a table, the parts of a chart."""

import re

from monitors import MONITORS
from stats import ratio_interval

LABEL_WIDTH = 36
HOSTS = {
    "once": "a host that clears memory once (init_on_alloc=0)",
    "debian": "Debian's default host (init_on_alloc=1)",
    "this": "this host, by its clock",
}


class Figures:
    """The series of a result, by host, case, monitor and metric."""

    def __init__(self, result):
        self.result = result
        self.series = {
            (entry["host"], entry["case"], entry["monitor"], entry["metric"]): entry for entry in result["series"]
        }
        self.hosts = list(result["hosts"])
        self.cases = {entry["case"]: entry["label"] for entry in result["series"]}

    def get(self, host, case, monitor, metric):
        """The median, or None."""
        entry = self.series.get((host, case, monitor, metric))
        return entry["median"] if entry else None

    def values(self, host, case, monitor, metric):
        entry = self.series.get((host, case, monitor, metric))
        return entry["values"] if entry else []

    def monitors(self, host, case):
        """Those measured, in the order of the table of adapters."""
        there = {key[2] for key in self.series if key[:2] == (host, case)}
        return [name for name in MONITORS if name in there]

    def ratio(self, host, case, monitor, metric):
        """How many times as fast (or small) mayfly is: the ratio and its interval, or None."""
        ours, theirs = self.values(host, case, "mayfly", metric), self.values(host, case, monitor, metric)
        return ratio_interval(theirs, ours) if ours and theirs else None


def ratio_text(ratio):
    """A ratio with its interval, which is left out where that is narrower than 1 %."""
    if not ratio:
        return ""
    middle, low, high = ratio
    return f"{middle:.2f}" if high - low < middle / 100 else f"{middle:.2f} [{low:.2f}, {high:.2f}]"


def versions_lines(result):
    lines = [f"{name}: {program['version']}, {program['bytes']:,} bytes" for name, program in result["programs"].items()]
    lines.append(f"guest kernel: {result['guest_kernel']['version']}, {result['guest_kernel']['path']}")
    for key, host in result["hosts"].items():
        lines.append(f"host '{key}': {host['kernel']}; {host['cpu']}; {host['machine']}")
    return lines + result["notes"]


def row(label, cells, width=12):
    return (f"{label:{LABEL_WIDTH}}" + "".join(f"{cell:>{width}}" for cell in cells)).rstrip()


def escape(text):
    return re.sub("[&<>]", lambda found: {"&": "&amp;", "<": "&lt;", ">": "&gt;"}[found[0]], text)


def svg_text(x, y, text, extra=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" {extra}>{escape(text)}</text>'


def round_step(most):
    """A distance of ticks that gives four to ten of them: 1, 2 or 5 times a power of ten."""
    step = 1.0
    while most / step > 10:
        step *= 10
    while most / step < 1:
        step /= 10
    for divisor in (5, 2):
        if most / (step / divisor) <= 10:
            return step / divisor
    return step


def svg_start(width, height):
    return [
        '<svg xmlns="http://www.w3.org/2000/svg" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13" fill="#222">',
        '<rect width="100%" height="100%" fill="#fff"/>',
    ]


def legend(x, y, phases):
    out = []
    for _, label, colour, _ in phases:
        out.append(f'<rect x="{x:.1f}" y="{y - 10}" width="11" height="11" fill="{colour}"/>')
        out.append(svg_text(x + 16, y, label, 'font-size="12"'))
        x += 32 + 6 * len(label)
    return out


def axis(left, top, width, bottom, most, unit):
    out, step = [], round_step(most)
    for number in range(int(most / step) + 1):
        x = left + number * step / most * width
        out.append(f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom - 8}" stroke="#ddd"/>')
        extra = 'text-anchor="middle" font-size="12"'
        out.append(svg_text(x, bottom + 10, f"{number * step:g}", extra))
    out.append(svg_text(left + width / 2, bottom + 34, unit, 'text-anchor="middle"'))
    return out


def one_bar(name, phases, parts, left, y, per_unit, height):
    out, x = [svg_text(left - 10, y + height / 2 + 5, name, 'text-anchor="end"')], left
    for (_, label, colour, ink), part in zip(phases, parts):
        if part <= 0:
            continue
        size = part * per_unit
        out.append(
            f'<rect x="{x:.1f}" y="{y}" width="{size:.1f}" height="{height}" fill="{colour}">'
            f"<title>{escape(label)}: {part:.2f}</title></rect>"
        )
        if size > 34:
            extra = f'text-anchor="middle" font-size="12" style="fill:{ink}"'
            out.append(svg_text(x + size / 2, y + height / 2 + 4, f"{part:.1f}", extra))
        x += size
    out.append(svg_text(x + 8, y + height / 2 + 5, f"{sum(parts):.1f}", 'font-weight="bold"'))
    return out
