"""The report of perf/clone: the table, and the chart."""

from monitors import MONITORS
from report import HOSTS, Figures, axis, legend, one_bar, row, svg_start, svg_text, versions_lines

WIDTH = 14
TIERS = {"cold": "cold", "template": "template", "clone": "clone", "clone-no-cache": "clone, no cache", "pool": "claim of a pool"}
GUESTS = {"spin": "a spinning guest", "true": "true", "python": "python3 -c 1"}
ENDS = {
    "connect": "connect",
    "first": "first instr.",
    "user": "user space",
    "answered": "answered",
    "started": "started",
    "done": "done",
    "end": "exit",
    "idle": "idle",
}
MEMORY = {
    "memory": "idle",
    "memory-files": "  pages of files",
    "memory-used": "after the command",
    "memory-used-files": "  pages of files",
}
# The chart: what a bar is made of: an end, its label, colour, and that of the text in it.
PHASES = [
    ("first", "first instruction of the guest", "#3b6ea5", "#fff"),
    ("answered", "the guest has answered", "#8fb8de", "#222"),
    ("done", "the command is done", "#e8a33d", "#222"),
    ("end", "the process has ended", "#a8577e", "#fff"),
]


def label_of(case):
    tier, guest = case.split("/")
    return f"snapshot of {guest} MiB" if tier == "snapshot" else f"{TIERS[tier]}: {GUESTS[guest]}"


def spin_lines(figures, host):
    lines = []
    for name in figures.monitors(host, "clone/spin"):
        cells = [figures.get(host, "clone/spin", name, end) for end in ("first", "user")]
        lines.append(row(f"  {MONITORS[name].label}", [f"{cell / 1e6:,.2f}" for cell in cells], WIDTH))
    head = row("restore of a spinning guest", [ENDS["first"], ENDS["user"]], WIDTH)
    return ["", head, *lines] if lines else []


def command_lines(figures, host):
    lines = []
    ends = [end for end in ENDS if end != "connect" or any(case.startswith("pool/") for case in figures.cases)]
    for guest in ("true", "python"):
        for tier in TIERS:
            case = f"{tier}/{guest}"
            if case in figures.cases:
                cells = [figures.get(host, case, "mayfly", end) for end in ends]
                text = ["" if cell is None else f"{cell / 1e6:,.2f}" for cell in cells]
                lines.append(row(f"  {label_of(case)}", text, WIDTH))
    return ["", row("a command, from exec to", [ENDS[end] for end in ends], WIDTH), *lines]


def snapshot_lines(figures, host):
    lines = []
    for case in sorted((case for case in figures.cases if case.startswith("snapshot/")), key=lambda c: int(c.split("/")[1])):
        for name in figures.monitors(host, case):
            size, *times = (figures.get(host, case, name, metric) for metric in ("size", "write", "pause"))
            cells = [f"{size / 1e6:,.1f} MB", *("" if time is None else f"{time / 1e6:,.2f}" for time in times)]
            lines.append(row(f"  {case.split('/')[1]} MiB, {MONITORS[name].label}", cells, WIDTH))
    return ["", row("snapshots", ["on disk", "work", "pause"], WIDTH), *lines]


def memory_lines(figures, host):
    lines = []
    for guest in ("true", "python"):
        for metric, label in MEMORY.items():
            size = figures.get(host, f"clone/{guest}", "mayfly", metric)
            if size is not None:
                lines.append(row(f"  {GUESTS[guest]}: {label}", [f"{size:,.0f} KiB"], WIDTH))
    return ["", row("memory of each further clone", ["KiB"], WIDTH), *lines] if lines else []


def table(result):
    figures = Figures(result)
    unit = "millions of instructions" if result["clock"] == "instructions" else "ms, by the clock of this host"
    lines = [f"Clones: 1 vCPU, 128 MiB; median of {result['runs']}; {unit}, without idle time"]
    for host in figures.hosts:
        lines += ["", HOSTS[host]]
        for part in (spin_lines, command_lines, snapshot_lines, memory_lines):
            lines += part(figures, host)
    return "\n".join([*lines, "", *versions_lines(result)])


def chart(result):
    """A bar for each tier of each command, on the first host."""
    figures = Figures(result)
    host = figures.hosts[0]
    left, top, width, bar, gap, right = 240, 84, 680, 34, 14, 90
    bars = []
    for case in (f"{tier}/{guest}" for guest in ("true", "python") for tier in TIERS):
        if case in figures.cases:
            ends = [figures.get(host, case, "mayfly", phase[0]) for phase in PHASES]
            ends[0] = ends[0] or figures.get(host, case, "mayfly", "run")
            parts, last = [], 0
            for end in ends:
                parts.append(max((end or last) - last, 0) / 1e6)
                last = max(end or last, last)
            bars.append((label_of(case), parts))
    most = max(sum(parts) for _, parts in bars)
    bottom = top + len(bars) * (bar + gap)
    unit = "million instructions" if result["clock"] == "instructions" else "ms"
    out = [
        *svg_start(left + width + right, bottom + 56),
        svg_text(left, 26, f"A command in a new VM, by tier, {HOSTS[host]}", 'font-size="17" font-weight="bold"'),
        *legend(left, 52, PHASES),
        *axis(left, top - 8, width, bottom, most, unit),
    ]
    for number, (name, parts) in enumerate(bars):
        out += one_bar(name, PHASES, parts, left, top + number * (bar + gap), width / most, bar)
    return "\n".join([*out, "</svg>", ""])
