"""The report of perf/boot: the table, and the chart."""

from monitors import MONITORS
from report import HOSTS, LABEL_WIDTH, Figures, axis, legend, one_bar, ratio_text, row, svg_start, svg_text, versions_lines

CASE = "boot"
TIMES = {
    "setup": "exec to first guest instruction",
    "boot": "first guest instruction to PID 1",
    "host": "  of it in the host",
    "guest": "  of it in the guest",
    "total": "exec to PID 1",
    "idle": "  idle besides",
    "exit": "reboot to process end",
    "exit_idle": "  idle besides",
    "process": "start to process end",
}
COUNTS = {
    "exits": "VM exits before PID 1",
    "user_exits": "  of them to user space",
}
MEMORY = {
    "rss": "monitor's own RSS, KiB",
    "pss": "monitor's own PSS, KiB",
    "guest_rss": "guest RAM in use, KiB",
    "peak_rss": "peak RSS with guest RAM, KiB",
}
COUNTED = {
    "counted_u": "instructions, user",
    "counted_k": "instructions, kernel",
    "counted_G": "instructions, guest",
}
RATIOS = ("setup", "total", "exit", "pss")
REASONS_SHOWN = 8
WIDTH = 21

# The chart: what a bar is made of, its colour, and that of the text in it.
PHASES = [
    ("setup", "exec to first guest instruction", "#3b6ea5", "#fff"),
    ("host", "host, until PID 1", "#8fb8de", "#222"),
    ("guest", "guest, until PID 1", "#e8a33d", "#222"),
    ("exit", "reboot to process end", "#a8577e", "#fff"),
]


def thousands(number):
    return f"{number / 1000:,.0f}"


def metric_rows(figures, host, names, labels, show):
    """The median for each monitor, and behind it how far the runs are apart where they are."""
    rows = []
    for key, label in labels.items():
        cells = []
        for name in names:
            values = figures.values(host, CASE, name, key)
            if not values:
                cells.append("-")
                continue
            text = show(figures.get(host, CASE, name, key))
            apart = (max(values) - min(values)) / max(max(values), 1) * 100
            cells.append(f"{text} ±{apart / 2:.1f}%" if apart >= 0.2 and len(values) > 1 else text)
        if any(cell not in ("-", "0") for cell in cells):
            rows.append(row(label, cells, WIDTH))
    return rows


def reason_labels(figures, host):
    """The commonest reasons of mayfly's exits."""
    keys = [key[3] for key in figures.series if key[:3] == (host, CASE, "mayfly") and key[3].startswith("exits:")]
    keys.sort(key=lambda key: -figures.get(host, CASE, "mayfly", key))
    return {key: f"    {key.removeprefix('exits:')}" for key in keys[:REASONS_SHOWN]}


def ratio_rows(figures, host, names):
    rows = []
    for key in RATIOS:
        ratios = [figures.ratio(host, CASE, name, key) if name != "mayfly" else None for name in names]
        if any(ratios):
            label = {**TIMES, **MEMORY}[key].strip()
            rows.append(row(f"  {label}", [ratio_text(ratio) for ratio in ratios], WIDTH))
    return ["", "times mayfly's (with the 95 % interval)", *rows] if rows else []


def table(result):
    figures = Figures(result)
    unit = "thousands of instructions" if result["clock"] == "instructions" else "microseconds, by the clock of this host"
    sizes = f"{result['options']['cpus']} vCPU, {result['options']['mem_mib']} MiB"
    lines = [f"Boot to PID 1: {sizes}; {result['runs']} runs of each; {unit}"]
    for host in figures.hosts:
        names = figures.monitors(host, CASE)
        labels = COUNTS | reason_labels(figures, host)
        lines += [
            "",
            HOSTS[host],
            f"{'':{LABEL_WIDTH}}" + "".join(f"{MONITORS[name].label:>{WIDTH}}" for name in names),
            *metric_rows(figures, host, names, TIMES, thousands),
            *metric_rows(figures, host, names, labels | MEMORY | COUNTED, lambda number: f"{number:,.0f}"),
            *ratio_rows(figures, host, names),
        ]
    return "\n".join([*lines, "", *versions_lines(result)])


def chart(result):
    """A bar for each monitor, of the medians of its phases, on the first host; None where nothing is split."""
    figures = Figures(result)
    host = figures.hosts[0]
    left, top, width, bar, gap, right = 150, 84, 680, 34, 22, 90
    scale, unit = 1e6, "million instructions" if result["clock"] == "instructions" else "ms"
    bars = []
    for name in figures.monitors(host, CASE):
        if figures.get(host, CASE, name, "setup") is not None:
            parts = [(figures.get(host, CASE, name, phase[0]) or 0) / scale for phase in PHASES]
            bars.append((MONITORS[name].label, parts))
    if not bars:
        return None
    most = max(sum(parts) for _, parts in bars)
    bottom = top + len(bars) * (bar + gap)
    out = [
        *svg_start(left + width + right, bottom + 56),
        svg_text(left, 26, f"Boot to PID 1 and reboot, {HOSTS[host]}", 'font-size="17" font-weight="bold"'),
        *legend(left, 52, PHASES),
        *axis(left, top - 8, width, bottom, most, unit),
    ]
    for number, (name, parts) in enumerate(bars):
        out += one_bar(name, PHASES, parts, left, top + number * (bar + gap), width / most, bar)
    return "\n".join([*out, "</svg>", ""])
