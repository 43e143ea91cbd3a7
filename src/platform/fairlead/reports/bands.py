"""Panels of narrowing intervals as inline SVG: small, so that they stand side by side and fit a phone unscaled."""

from collections.abc import Sequence

from fairlead.reports.model import Band, BandPoint
from fairlead.reports.scale import Axis, LogAxis, Point, axis_over, finite_points, log_axis_over, tick_label
from fairlead.reports.svg import escape
from fairlead.reports.words import format_interval, format_number

WIDTH, HEIGHT = 280, 176
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 24, 40
_NEAR = 0.5
"""The y-axis holds the intervals of this last share of the points; earlier, wider ones are cut at the edge."""


def band_chart(band: Band, x_label: str) -> str:
    """One panel; "" when nothing of it is finite."""
    points = [p for p in band.points if p.x > 0 and finite_points([(p.x, p.x)])[0]]
    values = _near_values(points, band)
    if not values:
        return ""
    x = log_axis_over([p.x for p in points] + ([band.mark] if band.mark else []), _LEFT, WIDTH - _RIGHT)
    y = axis_over(values, HEIGHT - _BOTTOM, _TOP, padding=0.1)
    body = (
        _grid(x, y, x_label)
        + _area(points, x, y)
        + _bounds(band, y)
        + _line([(p.x, p.point) for p in points if p.point is not None], x, y)
        + _mark(band, x)
    )
    return (
        f'<svg class="band" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(band_summary(band), 600)}">'
        f"{body}</svg>"
    )


def band_summary(band: Band) -> str:
    """The panel in words: the first and the last interval, the bounds, the moment of decision."""
    known = [p for p in band.points if p.low is not None or p.high is not None or p.point is not None]
    if not known:
        return f"{band.title}: no observations."
    first, last = known[0], known[-1]
    text = f"{band.title}: after {format_number(last.x)}, {format_interval(last.low, last.point, last.high)}"
    if last is not first:
        text += f"; after {format_number(first.x)}, {format_interval(first.low, first.point, first.high)}"
    for name, value in band.bounds.items():
        text += f"; {name} {format_number(value)}"
    return text + (f"; {band.mark_label} after {format_number(band.mark)}." if band.mark else ".")


def _near_values(points: Sequence[BandPoint], band: Band) -> list[float]:
    late = points[int(len(points) * _NEAR) :]
    ends = [value for p in late for value in (p.low, p.high) if value is not None]
    estimates = [p.point for p in late if p.point is not None]
    if not ends and not estimates:
        return []
    bounds = [v for v, _ in finite_points((v, v) for v in band.bounds.values())[0]]
    values = [v for v, _ in finite_points((v, v) for v in [*ends, *estimates])[0]]
    if len(bounds) > 1:  # what matters lies between the bounds; how far beyond one it went does not
        low, high = min(bounds), max(bounds)
        values = [min(max(value, low - (high - low)), high + (high - low)) for value in values]
    return [*values, *bounds]


def _grid(x: LogAxis, y: Axis, x_label: str) -> str:
    floor, y_ticks, x_ticks = HEIGHT - _BOTTOM, y.ticks(4), x.ticks(5)
    lines = "".join(f"M{_LEFT} {y.place(tick):.0f}H{WIDTH - _RIGHT}" for tick in y_ticks)
    marks = "".join(f"M{x.place(tick):.0f} {floor}v4" for tick in x_ticks)
    parts = [f'<path class="grid" d="{lines}"/><path class="axis" d="M{_LEFT} {floor}H{WIDTH - _RIGHT}{marks}"/>']
    for tick in y_ticks:
        at = y.place(tick)
        parts.append(f'<text class="tick end" x="{_LEFT - 6}" y="{at + 4:.0f}">{tick_label(tick, y_ticks)}</text>')
    for tick in x_ticks:
        parts.append(f'<text class="tick mid" x="{x.place(tick):.0f}" y="{floor + 16}">{_short(tick)}</text>')
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    parts.append(f'<text class="label mid" x="{middle:g}" y="{floor + 33}">{escape(x_label, 50)}</text>')
    return "".join(parts)


def _short(number: float) -> str:
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def _area(points: Sequence[BandPoint], x: LogAxis, y: Axis) -> str:
    """From the lower ends forwards and the upper ends back; an end that is not known is the edge of the drawing."""
    known = [p for p in points if p.low is not None or p.high is not None]
    if not known:
        return ""
    if len(known) == 1:
        known = [
            BandPoint(x.low, known[0].low, None, known[0].high),
            BandPoint(x.high, known[0].low, None, known[0].high),
        ]
    lows = [(x.place(p.x), y.start if p.low is None else y.place(p.low)) for p in known]
    highs = [(x.place(p.x), y.end if p.high is None else y.place(p.high)) for p in known]
    # One path for the ground and both ends.
    outline = "L".join(f"{a:.1f} {b:.1f}" for a, b in (*lows, *reversed(highs)))
    return f'<path class="area band s0" d="M{outline}Z"/>'


def _line(points: Sequence[Point], x: LogAxis, y: Axis) -> str:
    finite, _ = finite_points(points)
    if not finite:
        return ""
    last = finite[-1]
    dot = f'<circle class="dot s0" cx="{x.place(last[0]):.1f}" cy="{y.place(last[1]):.1f}" r="3"/>'
    path = "M" + "L".join(f"{x.place(px):.1f} {y.place(py):.1f}" for px, py in finite)
    return (f'<path class="line s0" d="{path}"/>' if len(finite) > 1 else "") + dot


def _bounds(band: Band, y: Axis) -> str:
    """Of two bounds the lower one is named below its line, so that their names never lie on each other."""
    finite = sorted(((v, n) for n, v in band.bounds.items() if finite_points([(v, v)])[0]), reverse=True)
    parts = []
    for index, (value, name) in enumerate(finite):
        at = y.place(value)
        below = index > 0 or at < _TOP + 12
        parts.append(
            f'<path class="bound" d="M{_LEFT} {at:.1f}H{WIDTH - _RIGHT}"/>'
            f'<text class="tick end boundtext" x="{WIDTH - _RIGHT - 4}" y="{at + 13 if below else at - 4:.1f}">'
            f"{escape(name, 24)} {format_number(value)}</text>"
        )
    return "".join(parts)


def _mark(band: Band, x: LogAxis) -> str:
    if not band.mark:
        return ""
    at = x.place(band.mark)
    left = at > (_LEFT + WIDTH) / 2
    return (
        f'<path class="mark k-{band.kind}" d="M{at:.1f} {_TOP - 4}V{HEIGHT - _BOTTOM}"/>'
        f'<text class="tick {"end" if left else ""} marktext k-{band.kind}" x="{at - 4 if left else at + 4:.1f}" '
        f'y="{_TOP - 8}">{escape(band.mark_label, 28)}</text>'
    )
