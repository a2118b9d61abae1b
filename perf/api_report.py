"""The report of perf/api: the table, and the chart."""

from monitors import MONITORS
from report import HOSTS, Figures, axis, legend, one_bar, row, svg_start, svg_text, versions_lines

WIDTH = 16
LABELS = {
    "socket": "exec to an answer",
    "start": "InstanceStart",
    "put/idle": "PUT, idle guest",
    "put/io": "PUT, guest does I/O",
    "load": "exec to a loaded snapshot",
}
# A row: case, metric, label, decimals.
ROWS = [
    ("socket", "answered", "exec -> GET / is answered", 2),
    ("start", "first", "InstanceStart -> first instruction", 2),
    ("start", "answered", "  -> its answer", 2),
    ("load", "first", "exec -> loaded, first instruction", 2),
    ("load", "answered", "  -> the load's answer", 2),
    ("put/idle", "p50", "FlushMetrics, idle guest: p50", 3),
    ("put/idle", "p99", "  p99", 3),
    ("put/io", "p50", "FlushMetrics, guest does I/O: p50", 3),
    ("put/io", "p99", "  p99", 3),
]
# The chart: a bar for each of them.
BARS = [("socket", "answered", "first answer"), ("start", "first", "InstanceStart"), ("load", "first", "loaded snapshot")]
PHASES = [("all", "to the first answer, or to the first guest instruction", "#3b6ea5", "#fff")]


def table(result):
    figures = Figures(result)
    unit = "millions of instructions" if result["clock"] == "instructions" else "ms, by the clock of this host"
    lines = [f"API: 1 vCPU, 128 MiB; median of {result['runs']}; {unit}"]
    for host in figures.hosts:
        names = figures.monitors(host, "socket")
        lines += ["", row(HOSTS[host], [])]
        lines.append(row("", [MONITORS[name].label for name in names], WIDTH))
        for case, metric, label, digits in ROWS:
            cells = [figures.get(host, case, name, metric) for name in names]
            if any(cell is not None for cell in cells):
                lines.append(row(label, ["" if cell is None else f"{cell / 1e6:,.{digits}f}" for cell in cells], WIDTH))
    return "\n".join([*lines, "", *versions_lines(result)])


def chart(result):
    """A bar for each start of each monitor, on the first host."""
    figures = Figures(result)
    host = figures.hosts[0]
    left, top, width, bar, gap, right = 270, 84, 680, 30, 12, 90
    bars = []
    for case, metric, label in BARS:
        for name in figures.monitors(host, case):
            value = figures.get(host, case, name, metric)
            if value is not None:
                bars.append((f"{label}, {MONITORS[name].label}", [value / 1e6]))
    most = max(parts[0] for _, parts in bars)
    bottom = top + len(bars) * (bar + gap)
    unit = "million instructions" if result["clock"] == "instructions" else "ms"
    out = [
        *svg_start(left + width + right, bottom + 56),
        svg_text(left, 26, f"Firecracker's API, {HOSTS[host]}", 'font-size="17" font-weight="bold"'),
        *legend(left, 52, PHASES),
        *axis(left, top - 8, width, bottom, most, unit),
    ]
    for number, (name, parts) in enumerate(bars):
        out += one_bar(name, PHASES, parts, left, top + number * (bar + gap), width / most, bar)
    return "\n".join([*out, "</svg>", ""])
