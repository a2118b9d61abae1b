"""The report of perf/peers: one HTML file that needs no other."""

from report import HOSTS, Figures, escape, versions_lines

STYLE = """
body { font: 15px/1.5 sans-serif; color: #222; max-width: 1100px; margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.5em } h2 { font-size: 1.2em; margin-top: 2.5em; border-top: 1px solid #ccc; padding-top: 1em }
pre { font-size: 12px; overflow-x: auto; background: #f6f6f4; padding: 1em } svg { max-width: 100%; height: auto }
details { margin: 1em 0 } summary { cursor: pointer; color: #3b6ea5 }
"""
TITLES = {
    "boot": "A boot to PID 1",
    "command": "A command in a new VM",
    "disk": "Drives",
    "net": "Networks and vsock",
}
METHOD = {
    "instructions": "Counted in an emulated machine, in which each instruction takes a nanosecond: the work of monitor, host "
    "kernel and guest together, without idle time. It is no time of a processor. Runs of all monitors are interleaved; "
    "figures are medians, intervals are 95 % confidence intervals of the ratio (percentile bootstrap).",
    "ns": "By the clock of this host. Runs of all monitors are interleaved; figures are medians, intervals are 95 % "
    "confidence intervals of the ratio (percentile bootstrap).",
}


def commands(result):
    lines = [f"{entry['case']}, {entry['monitor']}:\n  {' '.join(entry['argv'])}" for entry in result["commands"]]
    return "\n".join(lines)


def section(result, table, chart):
    hosts = ", ".join(HOSTS[host] for host in Figures(result).hosts)
    return [
        f"<h2>{TITLES[result['tool']]}</h2>",
        f"<p>{result['runs']} runs of each, {escape(result['taken'])}, on {escape(hosts)}.</p>",
        chart or "",
        f"<pre>{escape(table)}</pre>",
        f"<details><summary>Command lines</summary><pre>{escape(commands(result))}</pre></details>",
    ]


def page(parts):
    """Parts: for each tool its result, table and chart."""
    result = parts[0][0]
    out = [
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>mayfly beside other monitors</title>',
        f"<style>{STYLE}</style></head><body>",
        "<h1>mayfly beside other monitors</h1>",
        f"<p>{METHOD[result['clock']]}</p>",
        f"<pre>{escape(chr(10).join(versions_lines(result)))}</pre>",
    ]
    for part in parts:
        out += section(*part)
    return "\n".join([*out, "</body></html>", ""])
