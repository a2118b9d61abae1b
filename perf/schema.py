#!/usr/bin/env python3
"""The results of perf/ as JSON and CSV: what is in them, and a check. perf/README.md describes each field.

usage: perf/schema.py FILE.json...      says what is wrong with each; status 1 if anything is
"""

import csv
import json
import statistics
import sys

FORMAT, VERSION = "mayfly-perf", 1
UNITS = ("instructions", "ns", "KiB", "bytes", "count")
TEXT, NUMBER, LIST, TABLE = str, (int, float), list, dict
TOP = {
    "format": TEXT,
    "version": NUMBER,
    "tool": TEXT,
    "taken": TEXT,
    "clock": TEXT,
    "runs": NUMBER,
    "options": TABLE,
    "hosts": TABLE,
    "programs": TABLE,
    "guest_kernel": TABLE,
    "series": LIST,
    "commands": LIST,
    "notes": LIST,
}
SERIES = {
    "host": TEXT,
    "case": TEXT,
    "label": TEXT,
    "monitor": TEXT,
    "metric": TEXT,
    "unit": TEXT,
    "values": LIST,
    "min": NUMBER,
    "median": NUMBER,
    "max": NUMBER,
}
HOST = {"kernel": TEXT, "cpu": TEXT, "cpus": NUMBER, "machine": TEXT}
HOST_OPTIONAL = {"command_line": TEXT}
PROGRAM = {"version": TEXT}
PROGRAM_OPTIONAL = {"path": TEXT, "bytes": NUMBER, "sha256": TEXT}
COLUMNS = ("tool", "host", "case", "monitor", "metric", "unit", "runs", "median", "min", "max")


def series(host, case, label, monitor, metric, unit, values):
    return {
        "host": host,
        "case": case,
        "label": label,
        "monitor": monitor,
        "metric": metric,
        "unit": unit,
        "values": values,
        "min": min(values),
        "median": statistics.median(values),
        "max": max(values),
    }


def key_of(entry):
    """Names a series in its result, and in another one to compare with."""
    return tuple(entry[field] for field in ("host", "case", "monitor", "metric"))


def check_fields(where, value, fields, optional=None):
    if not isinstance(value, dict):
        return [f"{where}: not an object"]
    problems = []
    for name, kind in (fields | (optional or {})).items():
        if name not in value:
            problems += [f"{where}: no {name}"] if name in fields else []
        elif not isinstance(value[name], kind) or isinstance(value[name], bool):
            problems.append(f"{where}: {name} has the wrong type")
    return problems


def check_series(number, entry, result):
    where = f"series {number}"
    problems = check_fields(where, entry, SERIES)
    if problems:
        return problems
    values = entry["values"]
    if not values or not all(isinstance(value, NUMBER) and not isinstance(value, bool) for value in values):
        return [f"{where}: values are not numbers, or there are none"]
    if entry["unit"] not in UNITS:
        problems.append(f"{where}: unit '{entry['unit']}' is none of {', '.join(UNITS)}")
    if entry["host"] not in result["hosts"]:
        problems.append(f"{where}: host '{entry['host']}' is not among hosts")
    if [entry["min"], entry["median"], entry["max"]] != [min(values), statistics.median(values), max(values)]:
        problems.append(f"{where}: min, median, max are not those of values")
    return problems


def check(result):
    """What is wrong with a result, as a list of texts."""
    problems = check_fields("result", result, TOP)
    if problems:
        return problems
    if (result["format"], result["version"]) != (FORMAT, VERSION):
        return [f"result: format {result['format']} {result['version']}, not {FORMAT} {VERSION}"]
    if result["clock"] not in ("instructions", "ns"):
        problems.append(f"result: clock '{result['clock']}'")
    for name, host in result["hosts"].items():
        problems += check_fields(f"host {name}", host, HOST, HOST_OPTIONAL)
    for name, program in result["programs"].items():
        problems += check_fields(f"program {name}", program, PROGRAM, PROGRAM_OPTIONAL)
    problems += check_fields("guest_kernel", result["guest_kernel"], PROGRAM, PROGRAM_OPTIONAL)
    for number, entry in enumerate(result["series"]):
        problems += check_series(number, entry, result)
    for number, entry in enumerate(result["commands"]):
        problems += check_fields(f"command {number}", entry, {"case": TEXT, "monitor": TEXT, "argv": LIST})
    if not problems:
        keys = [key_of(entry) for entry in result["series"]]
        problems += [f"series {' '.join(key)} is there twice" for key in sorted(set(keys)) if keys.count(key) > 1]
    if not result["series"] and not result["notes"]:
        problems.append("result: no series, and no note that says why")
    return problems


def read(path):
    """A result, or the end of the program with what is wrong with the file."""
    try:
        with open(path, encoding="utf-8") as file:
            result = json.load(file)
    except (OSError, ValueError) as error:
        sys.exit(f"{path}: {error}")
    problems = check(result)
    if problems:
        sys.exit("\n".join(f"{path}: {problem}" for problem in problems))
    return result


def write_csv(file, result):
    out = csv.writer(file, lineterminator="\n")
    out.writerow(COLUMNS)
    for entry in result["series"]:
        row = entry | {"tool": result["tool"], "runs": len(entry["values"])}
        out.writerow([row[column] for column in COLUMNS])


def main():
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    for path in sys.argv[1:]:
        read(path)


if __name__ == "__main__":
    main()
