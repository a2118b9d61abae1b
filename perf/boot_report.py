"""What perf/boot makes of its figures: the table, the comparison with older ones, and the chart."""

import re
import statistics

NAMES = {"mayfly": "mayfly", "qemu": "QEMU microvm", "bare": "bare KVM"}
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
LABEL_WIDTH = 33

# The chart: what a bar is made of, its colour, and that of the text in it.
PHASES = [
    (("first",), "exec to first guest instruction", "#3b6ea5", "#fff"),
    (("host",), "host, until PID 1", "#8fb8de", "#222"),
    (("guest",), "guest, until PID 1", "#e8a33d", "#222"),
    (("idle", "exit_idle"), "idle", "#d9d9d9", "#222"),
    (("exit", "-exit_idle"), "reboot to process end", "#a8577e", "#fff"),
]


def spread(values):
    return {
        "min": min(values),
        "median": statistics.median(values),
        "max": max(values),
        "values": values,
    }


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


def row(label, cells, width=12):
    return (f"{label:{LABEL_WIDTH}}" + "".join(f"{cell:>{width}}" for cell in cells)).rstrip()


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
    """The commonest reasons of mayfly's exits, and what the others have of them."""
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
        '<svg xmlns="http://www.w3.org/2000/svg" '
        f'viewBox="0 0 {left + width + right} {bottom + 56}" '
        'font-family="sans-serif" font-size="13" fill="#222">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        svg_text(left, 26, "Boot to PID 1 and reboot", 'font-size="17" font-weight="bold"'),
        *legend(left, 52, shown),
        *axis(left, top - 8, width, bottom, most, unit),
    ]
    for number, (name, parts) in enumerate(bars):
        out += one_bar(name, parts, left, top + number * (bar + gap), width / most, bar)
    return "\n".join([*out, "</svg>", ""])


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


def one_bar(name, parts, left, y, per_unit, height):
    out, x = [svg_text(left - 10, y + height / 2 + 5, name, 'text-anchor="end"')], left
    for (_, label, colour, ink), part in zip(PHASES, parts):
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
