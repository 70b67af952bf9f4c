"""Live progress: a bar in a terminal, a line every few seconds elsewhere (CI, a log file); silent on other ranks."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from rlpost.run.tables import number


class Progress:
    """Shows how far a run is. `update` may be called at will; `say` prints a line without disturbing the bar."""

    def __init__(
        self, total: int, description: str, columns: Sequence[str], console: Console, every_s: float, start: int
    ):
        self.total, self.description, self.columns = total, description, tuple(columns)
        self.console, self.every_s, self.start = console, every_s, start
        self.step = start
        self.values: dict[str, float | None] = {}
        self.began = time.monotonic()
        self._said = -every_s
        self._bar: Bar | None = None

    def update(self, step: int, values: Mapping[str, float | None] | None = None) -> None:
        """`step` steps of the total are finished; `values` are remembered until they change."""
        self.step = step
        self.values.update(values or {})
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=step, values=self._values())
            return
        elapsed = time.monotonic() - self.began
        if elapsed - self._said >= self.every_s or step >= self.total:
            self._said = elapsed
            self.say(self.line(elapsed))

    def say(self, text: str) -> None:
        """One line of text above the bar, or between the plain lines."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def line(self, elapsed: float) -> str:
        """The plain form: description, step, values, time left."""
        done = self.step - self.start
        left = clock(elapsed / done * (self.total - self.step)) if done else "–"
        parts = [
            f"{self.description} {self.step}/{self.total}",
            self._values(),
            f"{clock(elapsed)} gone",
            f"{left} left",
        ]
        return "  ".join(part for part in parts if part)

    def _values(self) -> str:
        return "  ".join(f"{name} {_short(self.values.get(name))}" for name in self.columns)


@contextmanager
def progress(
    total: int,
    description: str,
    columns: Sequence[str] = ("reward", "tok/s"),
    *,
    start: int = 0,
    every_s: float = 10.0,
    console: Console | None = None,
) -> Iterator[Progress]:
    """Progress over `total` steps, `start` of them done before (a resumed run); a bar in a terminal."""
    main = int(os.environ.get("RANK", "0")) == 0
    console = console or Console(stderr=True, quiet=not main)
    shown = Progress(total, description, columns, console, every_s, start)
    ci = os.environ.get("CI", "").lower() not in ("", "0", "false")
    if not console.is_terminal or ci or console.quiet:
        yield shown
        return
    bar = Bar(
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[values]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        speed_estimate_period=600,  # a step takes seconds: the default of 30 s would look at three of them
        expand=True,
    )
    with bar:
        bar.add_task(description, total=total, completed=start, values=shown._values())
        shown._bar = bar
        yield shown
    shown._bar = None


def clock(seconds: float) -> str:
    """Seconds as `4:05` or `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _short(value: float | None) -> str:
    if isinstance(value, float) and abs(value) >= 100:
        return f"{value:.0f}"
    return number(value)
