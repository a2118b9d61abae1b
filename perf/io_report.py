"""What perf/disk, perf/net and perf/live share: measuring their setups, the table, and the chart."""

import bench
from monitors import MONITORS
from report import HOSTS, Figures, axis, escape, legend, ratio_text, svg_start, svg_text, versions_lines

COLUMNS = ("rate", "mayfly is x times as fast", "idle us", "host us", "all us", "calls", "exits")
WIDTHS = (13, 27, 10, 10, 10, 8, 8)
LABEL = 54
UNITS = {"exits": "count", "calls": "count"}


def make_jobs(rows):
    """Jobs of load.c, from rows of (key, label, job, bytes, unit, operations, operations when traced)."""
    jobs = []
    for key, label, base, size, unit, ops, ops_short in rows:
        job = {"key": key, "label": label, "bytes": size, "unit": unit}
        jobs.append(job | {"text": f"{base}:{ops}", "short": f"{base}:{ops_short}"})
    return jobs


def measure_setup(options, setup, host, more, **needs):
    """The results of io-measure.py for one setup on one host. Needs: further files and programs of the host."""
    files = {"initrd": bench.WORK / "load.cpio"} | needs.get("files", {})
    spec = bench.make_spec(options, setup["monitors"], files, **more)
    spec |= {"setup": setup, "traced": not options.light}
    spec["programs"] |= {"load": str(bench.WORK / "load")} | needs.get("programs", {})
    # A boot with streams of a GiB takes minutes in a lab that counts.
    each = setup["kind"] == "share" and not options.wall
    return (bench.measure_each if each else bench.measure)(options, "io", spec, host)


def measure(options, setups, more, **needs):
    """Runs io-measure.py for each host and setup, and returns the result."""
    bench.make_load()
    found, labels, rates = {}, {}, {}
    for setup in setups:
        for job in setup["jobs"]:
            case = f"{setup['key']}/{job['key']}"
            labels[case] = f"{setup['label']}, {job['label']}"
            rates[case] = [job["bytes"], job["unit"]]
        for host in bench.hosts_of(options):
            part = measure_setup(options, setup, host, more, **needs)
            if host in found:
                bench.merge(found[host], part)
            else:
                found[host] = part
    result = bench.make_result(options, found, lambda case, metric: (labels[case], UNITS.get(metric)))
    result["options"]["rates"] = rates
    return result


def rate_text(rate, elapsed):
    """Rate: bytes for each operation, and the unit."""
    size, unit = rate
    if unit == "MB/s":
        return f"{size / elapsed * 1e3:,.0f} MB/s"
    if unit == "us":
        return f"{elapsed / 1e3:,.1f} us"
    return f"{1e6 / elapsed:,.1f} k/s"


def cells_of(figures, rate, host, case, name):
    get = lambda metric: figures.get(host, case, name, metric)  # noqa: E731
    cells = [rate_text(rate, get("elapsed"))]
    cells.append("" if name == "mayfly" else ratio_text(figures.ratio(host, case, name, "elapsed")))
    idle = get("idle")
    cells.append("" if idle is None else f"{idle / 1e3:,.1f}")
    if get("guest") is None:
        return cells
    # The other end of a connection is part of the load, not of the monitor's work.
    work = get("elapsed") - get("load")
    cells += [f"{max(work - get('guest'), 0) / 1e3:,.1f}", f"{work / 1e3:,.1f}"]
    return cells + [f"{get('calls'):.2f}", f"{get('exits'):.2f}"]


def row(label, cells):
    text = f"{label:{LABEL}}" + "".join(f"{c:>{w}}" for c, w in zip(cells, WIDTHS))
    return text.rstrip()


def table(result, title):
    figures = Figures(result)
    unit = "1 us = 1,000 instructions" if result["clock"] == "instructions" else "by the clock of this host"
    lines = [f"{title}; median of {result['runs']}; {unit}"]
    for host in figures.hosts:
        lines += ["", row(HOSTS[host], COLUMNS)]
        for case, label in figures.cases.items():
            for name in figures.monitors(host, case):
                head = f"  {label if name == 'mayfly' else '':{LABEL - 22}}{MONITORS[name].label:20}"
                lines.append(row(head, cells_of(figures, result["options"]["rates"][case], host, case, name)))
    lines += [
        "",
        "mayfly is x times as fast as that monitor, with the 95 % interval",
        "idle us: time per operation in which nothing worked, which is in no other column",
        "host us: CPU time per operation outside of the guest; all us: with the guest's",
        "calls, exits: system calls of the monitor, and exits of the VM, per operation",
    ]
    return "\n".join([*lines, "", *versions_lines(result)])


def chart(result, title):
    """A bar for each job and monitor on the first host: time per operation, of the slowest's."""
    figures = Figures(result)
    host = figures.hosts[0]
    left, top, width, bar, gap, right = 330, 84, 460, 14, 10, 90
    rows = [(case, label, figures.monitors(host, case)) for case, label in figures.cases.items()]
    rows = [(case, label, names) for case, label, names in rows if names]
    shown = [name for name in MONITORS if any(name in names for _, _, names in rows)]
    bottom = top + sum(len(names) * bar + gap for _, _, names in rows)
    out = [
        *svg_start(left + width + right, bottom + 56),
        svg_text(20, 26, f"{title}, {HOSTS[host]}", 'font-size="17" font-weight="bold"'),
        *legend(20, 52, [(None, MONITORS[name].label, MONITORS[name].colour, "") for name in shown]),
        *axis(left, top - 8, width, bottom, 100, "time per operation, % of the slowest"),
    ]
    y = top
    for case, label, names in rows:
        times = {name: figures.get(host, case, name, "elapsed") for name in names}
        out.append(svg_text(left - 8, y + len(names) * bar / 2 + 4, label, 'text-anchor="end" font-size="12"'))
        for name, elapsed in times.items():
            size, text = elapsed / max(times.values()) * width, rate_text(result["options"]["rates"][case], elapsed)
            out.append(
                f'<rect x="{left}" y="{y}" width="{size:.1f}" height="{bar - 2}" '
                f'fill="{MONITORS[name].colour}"><title>{escape(MONITORS[name].label)}: {text}</title></rect>'
            )
            out.append(svg_text(left + size + 6, y + bar - 4, text, 'font-size="11"'))
            y += bar
        y += gap
    return "\n".join([*out, "</svg>", ""])
