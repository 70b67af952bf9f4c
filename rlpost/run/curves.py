"""Curves of a run as inline SVG. Colours are CSS variables of the page, so one drawing serves light and dark."""

import functools
import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# matplotlib wants real colours: these stand for the page's variables and are replaced in the SVG.
_INK, _MUTED, _GRID, _PAPER = "#010203", "#040506", "#070809", "#0a0b0c"
_SERIES = ("#0d0001", "#0d0002", "#0d0003", "#0d0004", "#0d0005", "#0d0006")
_VARIABLES = {
    _INK: "var(--ink)",
    _MUTED: "var(--muted)",
    _GRID: "var(--line)",
    _PAPER: "var(--card)",
    **{colour: f"var(--s{index})" for index, colour in enumerate(_SERIES, start=1)},
}
_HEAD = {"phase", "step", "time"}

# Which metrics belong in which chart; the first pattern that matches takes a metric, the rest is drawn under "More".
PANELS = (
    ("Reward", r"(train/)?reward(/mean)?|reward_of_\w+"),
    ("Reward columns", r"(train/)?rewards?/(?!.*(std|mean$))[^/]+(/mean)?"),
    ("Completion length", r"(completions?/)?(mean_)?(length|tokens)(/mean|_mean)?"),
    ("Entropy", r"(policy/)?entropy"),
    ("KL to the reference", r"(k3_|.*/)?(kl|approx_kl)(/value)?"),
    ("Learning rate", r"lr|learning_rate"),
    ("Loss", r"(train_|.*/)?loss"),
    ("Gradient norm", r"grad_norm"),
    ("Tokens per second", r"tok/s|(gradient_)?tokens_per_s"),
    ("Share of groups without signal", r"groups_without_signal|frac_reward_zero_std|no_signal"),
    ("Shares of groups and tokens by what becomes of them", r"signal/.+"),
    ("Share cut off at the length limit", r"cut_at_limit|(completions?/)?clipped_ratio"),
    ("Seconds per phase of a step", r"time/.+"),
)


class Chart(NamedTuple):
    """A titled drawing."""

    title: str
    svg: str


class Curve(NamedTuple):
    """One line of a chart."""

    name: str
    steps: list[float]
    values: list[float]


def charts(records: Sequence[Mapping]) -> tuple[list[Chart], list[Chart]]:
    """The charts that everyone wants to see, and the remaining metrics, from the records of `metrics.jsonl`."""
    train = collect([record for record in records if record.get("phase", "train") == "train"])
    longest = max((len(curve.steps) for curve in train), default=0)
    # A trainer's closing record (its total runtime) is one point, no curve.
    train = [curve for curve in train if len(curve.steps) > 1 or longest == 1]
    held = collect([record for record in records if record.get("phase", "train") != "train"])
    main = [Chart(f"Held-out {curve.name}", draw([curve], marked=True)) for curve in held if len(curve.steps) > 1]
    for title, pattern in PANELS:
        taken = [curve for curve in train if re.fullmatch(pattern, curve.name)]
        train = [curve for curve in train if curve not in taken]
        if taken:
            exact = title == "Learning rate"  # no noise to smooth: a running mean would only lag
            main.append(Chart(title, draw(_named(taken), smooth_from=10**9 if exact else 20)))
    return main, [Chart(curve.name, draw([curve])) for curve in train]


def collect(records: Sequence[Mapping]) -> list[Curve]:
    """One curve per metric; a record without a number for it leaves a gap out."""
    found: dict[str, Curve] = {}
    for record in records:
        for name, value in record.items():
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if name in _HEAD or record.get("step") is None or not number:
                continue
            curve = found.setdefault(name, Curve(name, [], []))
            curve.steps.append(record["step"])
            curve.values.append(value)
    return list(found.values())


def draw(curves: Sequence[Curve], *, marked: bool = False, smooth_from: int = 20) -> str:
    """An SVG of several curves over steps: thin raw values, and a running mean on top from `smooth_from` points on."""
    salt = "-".join(curve.name for curve in curves)
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt, "font.size": 9}):
        figure, axes = _sheet()
        _wipe(axes, _place(len(curves)))
        for index, curve in enumerate(curves):
            colour = _SERIES[index % len(_SERIES)]
            dash = "-" if index < len(_SERIES) else "--"
            smooth = len(curve.values) >= smooth_from
            raw = {"alpha": 0.3, "linewidth": 1} if smooth else {"linewidth": 1.8, "label": curve.name}
            marker = "o" if marked or len(curve.values) < 4 else None
            axes.plot(curve.steps, curve.values, dash, color=colour, marker=marker, markersize=4, **raw)
            if smooth:
                mean = running_mean(curve.values, max(5, len(curve.values) // 12))
                axes.plot(curve.steps, mean, dash, color=colour, linewidth=1.8, label=curve.name)
        if len(curves) > 1:
            axes.legend(frameon=False, labelcolor=_INK, fontsize=8, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
        stream = io.StringIO()
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        FigureCanvasSVG(figure).print_svg(stream, metadata=nothing)
    return _inline(stream.getvalue())


def _place(curves: int) -> tuple[float, float, float, float]:
    """Left, bottom, width and height of the axes, with room for a legend of three names a row above them.

    Fixed, since matplotlib's layouts draw everything twice, and a report has a dozen charts.
    """
    legend = 0.075 * math.ceil(curves / 3) if curves > 1 else 0.0
    return (0.13, 0.13, 0.85, 0.79 - legend)


def running_mean(values: Sequence[float], width: int) -> list[float]:
    """Mean of the last `width` values (of those there are, at the start)."""
    return [sum(values[max(0, end - width) : end]) / min(width, end) for end in range(1, len(values) + 1)]


def _named(curves: Sequence[Curve]) -> list[Curve]:
    """Inside one chart the common `reward/` or `time/` says nothing."""
    if len(curves) < 2:
        return list(curves)
    common = r"^(train/)?rewards?/|^time/|^signal/|/mean$"
    return [curve._replace(name=re.sub(common, "", curve.name)) for curve in curves]


@functools.cache
def _sheet() -> tuple[Figure, Axes]:
    """One figure for every chart: to make its ticks costs as much as to draw them."""
    figure = Figure(figsize=(4.6, 2.3))
    figure.patch.set_alpha(0)
    axes = figure.add_axes(_place(1))
    axes.patch.set_alpha(0)
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(_GRID)
    axes.tick_params(colors=_MUTED, length=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.ticklabel_format(axis="y", scilimits=(-3, 5))
    axes.yaxis.get_offset_text().set_color(_MUTED)
    return figure, axes


def _wipe(axes: Axes, place: tuple[float, float, float, float]) -> None:
    """Take the last chart off the sheet."""
    for line in list(axes.lines):
        line.remove()
    legend = axes.get_legend()
    if legend is not None:
        legend.remove()
    axes.set_position(place)
    axes.relim()


def _inline(svg: str) -> str:
    """The drawing without the XML header and fixed size, with the page's colours and font."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font: \1 var(--font)", svg)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    return svg
