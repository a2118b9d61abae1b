"""What the reports of perf/ share: rows of a table, and the parts of a chart."""

import re
import statistics

LABEL_WIDTH = 33


def spread(values):
    return {
        "min": min(values),
        "median": statistics.median(values),
        "max": max(values),
        "values": values,
    }


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
