"""Charts as SVG that the server draws: shapes in the picture, words beside it in HTML.

Colours come from classes of the style sheet, so that both themes fit; positions are attributes, for
the policy allows no inline style. Each step has a title that shows on hover, and each chart a
table of the same values for whoever cannot see it, or wants the figures.
"""

from collections.abc import Callable, Sequence
from html import escape

import msgspec
from markupsafe import Markup

from freehold.console import words

_WIDTH, _HEIGHT = 600, 120
_MARKS = 4
_NOTHING = Markup('<p class="quiet">Nothing in this time.</p>')
_ENDS = (1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8, 10)


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One measure over time. `colour` is a class: c1 to c6, bad, quiet. None: nothing measured."""

    name: str
    values: Sequence[float | None]
    colour: str = "c1"


Say = Callable[[float | None], str]


def bars(
    times: Sequence[words.Moment], lines: Sequence[Line], *, label: str, say: Say = words.number
) -> Markup:
    """Stacked, a column a step."""
    tops = [sum(line.values[i] or 0 for line in lines) for i in range(len(times))]
    if not any(tops):
        return _NOTHING
    top = _round_up(max(tops))
    step = _WIDTH / max(1, len(times))
    gap = min(2.0, step * 0.2)
    shapes = []
    for i in range(len(times)):
        below = 0.0
        for line in lines:
            height = (line.values[i] or 0) / top * _HEIGHT
            if height:
                shapes.append(
                    f'<rect class="{line.colour}" x="{i * step + gap / 2:.2f}" '
                    f'y="{_HEIGHT - below - height:.2f}" width="{step - gap:.2f}" '
                    f'height="{height:.2f}"/>'
                )
            below += height
    return _chart("".join(shapes), times, lines, label=label, top=top, say=say)


def curves(
    times: Sequence[words.Moment], lines: Sequence[Line], *, label: str, say: Say = words.number
) -> Markup:
    """A line each; a step without a value breaks it, a lone one is a dot."""
    found = [v for line in lines for v in line.values if v is not None]
    if not found:
        return _NOTHING
    top = _round_up(max(found))
    step = _WIDTH / max(1, len(times))
    shapes = [_curve(line, step, top) for line in lines]
    return _chart("".join(shapes), times, lines, label=label, top=top, say=say)


def share(value: float, whole: float, *, colour: str = "c1") -> Markup:
    """A bar in a table's cell: so much of the whole."""
    width = 0 if not whole else max(0.0, min(100.0, value / whole * 100))
    return Markup(  # noqa: S704 - numbers alone
        f'<svg class="share" aria-hidden="true"><rect class="track" width="100%" height="100%"/>'
        f'<rect class="{colour}" width="{width:.2f}%" height="100%"/></svg>'
    )


def span_bar(start: float, width: float, *, colour: str) -> Markup:
    """A span's place in its trace, in parts of a hundred. Never too thin to be seen."""
    left = max(0.0, min(99.6, start))
    wide = max(0.4, min(100.0 - left, width))
    return Markup(  # noqa: S704 - numbers, and a class of ours
        f'<svg class="span-bar" aria-hidden="true">'
        f'<rect class="{escape(colour)}" x="{left:.3f}%" y="0" width="{wide:.3f}%" '
        f'height="100%" rx="2"/></svg>'
    )


def _curve(line: Line, step: float, top: float) -> str:
    runs: list[list[tuple[float, float]]] = [[]]
    for i, value in enumerate(line.values):
        if value is None:
            runs.append([])
        else:
            runs[-1].append(((i + 0.5) * step, _HEIGHT - value / top * _HEIGHT))
    shapes = []
    for run in runs:
        if run:
            # A stroke without length is drawn as a round cap: a dot that does not stretch.
            points = [run[0], run[0]] if len(run) == 1 else run
            path = "M" + " L".join(f"{x:.2f} {y:.2f}" for x, y in points)
            dot = " dot" if len(run) == 1 else ""
            shapes.append(f'<path class="{line.colour}{dot}" d="{path}"/>')
    return "".join(shapes)


def _chart(
    shapes: str,
    times: Sequence[words.Moment],
    lines: Sequence[Line],
    *,
    label: str,
    top: float,
    say: Say,
) -> Markup:
    step = _WIDTH / max(1, len(times))
    hovers = "".join(
        f'<rect class="hover" x="{i * step:.2f}" y="0" width="{step:.2f}" height="{_HEIGHT}">'
        f"<title>{escape(_hover(i, times, lines, say))}</title></rect>"
        for i in range(len(times))
    )
    rules = "".join(
        f'<path class="rule" d="M0 {y} H{_WIDTH}"/>' for y in (0.5, _HEIGHT / 2, _HEIGHT - 0.5)
    )
    keys = "".join(
        f'<span><i class="{line.colour}"></i>{escape(line.name)}</span>' for line in lines
    )
    key = f'<p class="chart-key">{keys}</p>' if len(lines) > 1 else ""
    marks = "".join(f"<span>{escape(mark)}</span>" for mark in _marks(times))
    return Markup(  # noqa: S704 - every word in it is escaped
        f'<figure class="chart" aria-label="{escape(label)}">{key}'
        f'<div class="chart-body"><div class="chart-scale" aria-hidden="true">'
        f"<span>{escape(say(top))}</span><span>{escape(say(top / 2))}</span><span>0</span></div>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(label)}">{rules}{shapes}{hovers}</svg>'
        f'<div class="chart-marks" aria-hidden="true">{marks}</div></div>'
        f"{_table(times, lines, label, say)}</figure>"
    )


def _table(times: Sequence[words.Moment], lines: Sequence[Line], label: str, say: Say) -> str:
    head = "".join(f"<th scope=col>{escape(line.name)}</th>" for line in lines)
    rows = "".join(
        f"<tr><th scope=row>{escape(words.absolute(time))}</th>"
        + "".join(f"<td>{escape(say(line.values[i]))}</td>" for line in lines)
        + "</tr>"
        for i, time in enumerate(times)
        if any(line.values[i] for line in lines)
    )
    if not rows:
        return ""
    return (
        f'<details class="as-table"><summary>As a table</summary><div class="scrolls" tabindex="0" '
        f'role="region" aria-label="{escape(label)}"><table><thead><tr><th scope=col>From</th>'
        f"{head}</tr></thead><tbody>{rows}</tbody></table></div></details>"
    )


def _hover(i: int, times: Sequence[words.Moment], lines: Sequence[Line], say: Say) -> str:
    values = "\n".join(f"{line.name}: {say(line.values[i])}" for line in lines)
    return f"{words.absolute(times[i])}\n{values}"


def _marks(times: Sequence[words.Moment]) -> list[str]:
    found = [m for m in map(words.moment, times) if m is not None]
    if len(found) < 2:
        return []
    days = (found[-1] - found[0]).total_seconds() > 2 * 86_400
    shape = "%d %b" if days else "%H:%M"
    places = sorted({round(i * (len(found) - 1) / (_MARKS - 1)) for i in range(_MARKS)})
    return [found[i].strftime(shape) for i in places]


def _round_up(value: float) -> float:
    """The end of the scale: a number whose half can be said shortly, too."""
    if value <= 0:
        return 1.0
    power = 1.0
    while power * 10 <= value:
        power *= 10
    while power > value:
        power /= 10
    return next(power * one for one in _ENDS if power * one >= value * 0.9999)
