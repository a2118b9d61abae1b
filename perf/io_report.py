"""The report of perf/disk and perf/net: the table, and the chart."""

import statistics

from report import axis, escape, legend, spread, svg_start, svg_text

NAMES = {"mayfly": "mayfly", "qemu": "QEMU", "qemu-vhost": "QEMU, vhost"}
COLOURS = {"mayfly": "#3b6ea5", "qemu": "#e8a33d", "qemu-vhost": "#a8577e"}
GOAL = 1.3  # times QEMU's throughput, and operations per second of CPU time
COLUMNS = ("rate", "ratio", "host us", "all us", "ops/CPU s", "calls", "exits")
WIDTHS = (12, 8, 10, 10, 11, 8, 8)
LABEL = 42


def summarize(spec, found):
    """The figures as they go to the JSON file. Times are instructions (icount) or nanoseconds."""
    setups = []
    for setup in spec["setups"]:
        jobs = []
        for job in setup["jobs"]:
            monitors = {}
            for name in setup["monitors"]:
                values = found["values"][setup["key"]][name][job["key"]]
                monitors[name] = figures(job, {k: statistics.median(v) for k, v in values.items()})
                monitors[name]["spread"] = {key: spread(series) for key, series in values.items()}
            jobs.append({"job": job, "monitors": monitors})
        setups.append(
            {
                "key": setup["key"],
                "label": setup["label"],
                "commands": found["commands"][setup["key"]],
                "jobs": jobs,
            }
        )
    unit = "instructions" if spec["icount"] else "ns"
    return {"format": 1, "unit": unit, "runs": spec["runs"], "setups": setups}


def figures(job, medians):
    """Results derived from the medians, per operation."""
    result = {
        "ops_per_s": 1e9 / medians["elapsed"],
        "bytes_per_s": 1e9 / medians["elapsed"] * job["bytes"],
        "ns_per_op": medians["elapsed"],
    }
    if "guest" in medians:
        # The peer is part of the load, not of the monitor's work.
        traced = medians["guest"] + medians["monitor"] + medians["kernel"] + medians["peer"]
        cpu = medians.get("cpu", traced) - medians["peer"]
        result["cpu_ns_per_op"] = cpu
        result["guest_ns_per_op"] = medians["guest"]
        result["host_ns_per_op"] = max(cpu - medians["guest"], 0)
        result["ops_per_cpu_s"] = 1e9 / cpu
        result["calls_per_op"] = medians["calls"]
        result["exits_per_op"] = medians["exits"]
    return result


def rate_text(job, entry):
    if job["unit"] == "MB/s":
        return f"{entry['bytes_per_s'] / 1e6:,.0f} MB/s"
    if job["unit"] == "us":
        return f"{entry['ns_per_op'] / 1e3:,.1f} us"
    return f"{entry['ops_per_s'] / 1e3:,.1f} k/s"


def cells_of(job, entry, base):
    """Base: mayfly's figures; the ratio is how much faster mayfly is than this monitor."""
    cells = [rate_text(job, entry)]
    cells.append("" if entry is base else f"{base['ops_per_s'] / entry['ops_per_s']:.2f}")
    if "host_ns_per_op" not in entry:
        return cells
    cells += [f"{entry[key] / 1e3:,.1f}" for key in ("host_ns_per_op", "cpu_ns_per_op")]
    ratio = base["ops_per_cpu_s"] / entry["ops_per_cpu_s"]
    cells.append("" if entry is base else f"{ratio:.2f}")
    cells += [f"{entry[key]:.2f}" for key in ("calls_per_op", "exits_per_op")]
    return cells


def row(label, cells):
    text = f"{label:{LABEL}}" + "".join(f"{c:>{w}}" for c, w in zip(cells, WIDTHS))
    return text.rstrip()


def table(result, title, notes):
    unit = "1 us = 1,000 instructions" if result["unit"] == "instructions" else "time of this host"
    lines = [f"{title}; median of {result['runs']}; {unit}", ""]
    for setup in result["setups"]:
        lines += [row(setup["label"], COLUMNS)]
        for entry in setup["jobs"]:
            base = entry["monitors"]["mayfly"]
            for name, values in entry["monitors"].items():
                label = f"  {entry['job']['label']}" if name == "mayfly" else ""
                head = f"{label:{LABEL - 12}}{NAMES[name]:12}"
                lines.append(row(head, cells_of(entry["job"], values, base)))
        lines.append("")
    lines += [
        "ratio, ops/CPU s: mayfly's rate, and operations per second of CPU time, over that monitor's",
        "host us: CPU time per operation outside of the guest; all us: with the guest's",
        "calls, exits: system calls of the monitor, and exits of the VM, per operation",
        *notes,
        *below_goal(result),
    ]
    return "\n".join(lines)


def below_goal(result):
    """The figures that are not as good as they should be."""
    found = []
    for setup in result["setups"]:
        for entry in setup["jobs"]:
            base = entry["monitors"]["mayfly"]
            where = f"{setup['label']}, {entry['job']['label']}"
            for name, values in entry["monitors"].items():
                for key, what in (("ops_per_s", "rate"), ("ops_per_cpu_s", "operations per CPU s")):
                    if name == "mayfly" or key not in values:
                        continue
                    ratio = base[key] / values[key]
                    if ratio < GOAL:
                        found.append(f"  {where}: {what} {ratio:.2f} times that of {NAMES[name]}")
            if base.get("calls_per_op", 0) > 1:
                found.append(f"  {where}: {base['calls_per_op']:.2f} system calls per operation")
    head = f"Below the goal of {GOAL} times QEMU's, and a system call per operation:"
    return ["", head, *found] if found else []


def chart(result, title):
    """A bar for each job and monitor: CPU time per operation, the host's over QEMU's whole."""
    left, top, width, bar, gap, right = 300, 84, 460, 14, 10, 70
    rows = []
    for setup in result["setups"]:
        for entry in setup["jobs"]:
            label = f"{setup['label']}, {entry['job']['label']}"
            whole = max(values["ns_per_op"] for values in entry["monitors"].values())
            bars = [(n, v["ns_per_op"] / whole, v) for n, v in entry["monitors"].items()]
            rows.append((label, entry["job"], bars))
    names = {name for _, _, bars in rows for name, _, _ in bars}
    shown = [(None, NAMES[name], COLOURS[name], "") for name in NAMES if name in names]
    bottom = top + sum(len(bars) * bar + gap for _, _, bars in rows)
    out = [
        *svg_start(left + width + right, bottom + 56),
        svg_text(left, 26, title, 'font-size="17" font-weight="bold"'),
        *legend(left, 52, shown),
        *axis(left, top - 8, width, bottom, 100, "time per operation, % of the slowest"),
    ]
    y = top
    for label, job, bars in rows:
        extra = 'text-anchor="end" font-size="12"'
        out.append(svg_text(left - 8, y + len(bars) * bar / 2 + 4, label, extra))
        for name, part, values in bars:
            size = part * width
            text = rate_text(job, values)
            out.append(
                f'<rect x="{left}" y="{y}" width="{size:.1f}" height="{bar - 2}" '
                f'fill="{COLOURS[name]}"><title>{escape(NAMES[name])}: {text}</title></rect>'
            )
            out.append(svg_text(left + size + 6, y + bar - 4, text, 'font-size="11"'))
            y += bar
        y += gap
    return "\n".join([*out, "</svg>", ""])
