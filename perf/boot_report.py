"""The report of perf/boot: the table, the comparison with older figures, and the chart."""

from report import LABEL_WIDTH, axis, legend, one_bar, row, spread, svg_start, svg_text

NAMES = {"mayfly": "mayfly", "open": "mayfly --no-seccomp", "jailed": "mayfly --jail", "qemu": "QEMU microvm", "bare": "bare KVM"}
TIMES = {
    "first": "exec to first guest instruction",
    "kernel": "first guest instruction to PID 1",
    "host": "  of it in the host",
    "guest": "  of it in the guest",
    "idle": "  of it idle",
    "total": "exec to PID 1",
    "exit": "reboot to process end",
    "exit_idle": "  of it idle",
    "process": "start to process end",
}
COUNTS = {
    "exits": "VM exits before PID 1",
    "user_exits": "  of them to user space",
}
MEMORY = {
    "rss_kib": "monitor's own RSS, KiB",
    "pss_kib": "monitor's own PSS, KiB",
    "guest_rss_kib": "guest RAM in use, KiB",
    "peak_kib": "peak RSS with guest RAM, KiB",
}
REASONS_SHOWN = 8

# The chart: what a bar is made of, its colour, and that of the text in it.
PHASES = [
    (("first",), "exec to first guest instruction", "#3b6ea5", "#fff"),
    (("host",), "host, until PID 1", "#8fb8de", "#222"),
    (("guest",), "guest, until PID 1", "#e8a33d", "#222"),
    (("idle", "exit_idle"), "idle", "#d9d9d9", "#222"),
    (("exit", "-exit_idle"), "reboot to process end", "#a8577e", "#fff"),
]


def summarize(spec, found):
    """The figures as they go to boot.json. Times are instructions (icount) or nanoseconds."""
    monitors = {}
    for name, values in found["values"].items():
        monitors[name] = {
            "command": found["commands"][name],
            "metrics": {key: spread(series) for key, series in values.items()},
            "exits_by_reason": found["reasons"].get(name, {}),
            "memory": found["memory"].get(name, {}),
            "counters": found["counters"].get(name),
        }
    return {
        "format": 1,
        "unit": "instructions" if spec["icount"] else "ns",
        "runs": spec["runs"],
        "cpus": spec["cpus"],
        "mem_mib": spec["mem_mib"],
        "monitors": monitors,
        "steps": found["steps"],
    }


def thousands(number):
    return f"{number / 1000:,.0f}"


def metric_rows(result, names, labels, show):
    """Three columns for each monitor: min, median, max."""
    rows = []
    for key, label in labels.items():
        cells = []
        for name in names:
            metric = result["monitors"][name]["metrics"].get(key)
            columns = ("min", "median", "max")
            cells += [show(metric[column]) for column in columns] if metric else ["", "-", ""]
        if any(cell not in ("", "-") for cell in cells):
            rows.append(row(label, cells, 10))
    return rows


def plain_rows(result, names, labels, part):
    """One number for each monitor, under its median."""
    rows = []
    for key, label in labels.items():
        cells = []
        for name in names:
            value = result["monitors"][name][part].get(key)
            cells += ["", f"{value:,}" if value is not None else "-", ""]
        rows.append(row(label, cells, 10))
    return rows


def reason_rows(result, names):
    """The commonest reasons of mayfly's exits, and their counts in the other monitors."""
    reasons = list(result["monitors"]["mayfly"]["exits_by_reason"])[:REASONS_SHOWN]
    labels = {reason: f"    {reason}" for reason in reasons}
    return plain_rows(result, names, labels, "exits_by_reason")


def counter_rows(result, names):
    labels = {"u": "instructions, user", "k": "instructions, kernel", "G": "instructions, guest"}
    if not any(result["monitors"][name]["counters"] for name in names):
        return []
    counted = {name: {"counters": result["monitors"][name]["counters"] or {}} for name in names}
    return [*plain_rows({"monitors": counted}, names, labels, "counters"), ""]


def table(result):
    names = [name for name in NAMES if name in result["monitors"]]
    icount = result["unit"] == "instructions"
    unit = "thousands of instructions" if icount else "microseconds"
    exits = metric_rows(result, names, COUNTS, lambda number: f"{number:,.0f}")
    if exits:
        exits += [*reason_rows(result, names), ""]
    lines = [
        f"Boot to PID 1: {result['cpus']} vCPU, {result['mem_mib']} MiB; "
        f"{result['runs']} runs of each; {unit}",
        "",
        f"{'':{LABEL_WIDTH}}" + "".join(f"{NAMES[name]:>30}" for name in names),
        row("", ["min", "median", "max"] * len(names), 10),
        *metric_rows(result, names, TIMES, thousands),
        "",
        *exits,
        *counter_rows(result, names),
        *plain_rows(result, names, MEMORY, "memory"),
        "",
        "mayfly run --time" + (" (one ms is a million instructions)" if icount else ""),
        *["  " + line for line in result["steps"]],
    ]
    return "\n".join(lines)


def comparison(old, new):
    """The medians of both, and by how much the new ones differ."""
    if old["unit"] != new["unit"]:
        return f"\nNo comparison: the older figures are in {old['unit']}"
    lines = ["", row("Against the older figures", ["old", "new", "change", ""])]
    for name in NAMES:
        before, now = (result["monitors"].get(name, {}).get("metrics", {}) for result in (old, new))
        rows = []
        for key, label in {**TIMES, **COUNTS}.items():
            if key in before and key in now:
                medians = before[key]["median"], now[key]["median"]
                rows.append(compare_row(label, *medians, key in TIMES))
        if rows:
            lines += [NAMES[name], *rows]
    for key in ("cpus", "mem_mib"):
        if old[key] != new[key]:
            lines.append(f"Note: the older figures are with {key} = {old[key]}")
    return "\n".join(lines)


def compare_row(label, before, now, is_time):
    scale = 1000 if is_time else 1
    percent = f"{(now - before) / before * 100:+.2f} %" if before else ""
    cells = [f"{before / scale:,.0f}", f"{now / scale:,.0f}", f"{(now - before) / scale:+,.0f}"]
    return row("  " + label, [*cells, percent])


def phase_size(metrics, keys):
    """The sum of some medians; those with a minus count against it."""
    known = [key for key in keys if key.lstrip("-") in metrics]
    return sum(metrics[key.lstrip("-")]["median"] * (-1 if key[0] == "-" else 1) for key in known)


def chart(result):
    """A bar for each monitor, of the medians of its phases."""
    left, top, width, bar, gap, right = 120, 84, 680, 34, 22, 90
    scale, unit = 1e6, "million instructions" if result["unit"] == "instructions" else "ms"
    bars = []
    for name in NAMES:
        metrics = result["monitors"].get(name, {}).get("metrics", {})
        if "first" in metrics:
            bars.append((NAMES[name], [phase_size(metrics, phase[0]) / scale for phase in PHASES]))
    most = max(sum(parts) for _, parts in bars)
    bottom = top + len(bars) * (bar + gap)
    shown = [phase for i, phase in enumerate(PHASES) if any(parts[i] > 0 for _, parts in bars)]
    out = [
        *svg_start(left + width + right, bottom + 56),
        svg_text(left, 26, "Boot to PID 1 and reboot", 'font-size="17" font-weight="bold"'),
        *legend(left, 52, shown),
        *axis(left, top - 8, width, bottom, most, unit),
    ]
    for number, (name, parts) in enumerate(bars):
        out += one_bar(name, PHASES, parts, left, top + number * (bar + gap), width / most, bar)
    return "\n".join([*out, "</svg>", ""])
