"""Kill short runs with SIGKILL at many points, continue them, and compare all that they leave with a run left alone.

A point is a phase of the run (generate, reward, score, backward, save, ...) and any moment of it; a third of the killed
runs are killed once more after they were continued, at any moment. Compared bit for bit are every
metric that no clock measures, every completion and every file of weights. `docs/reliability.md` holds the figures.
"""

import argparse
import contextlib
import ctypes
import os
import random
import shutil
import signal
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from rlpost.errors import RlpostError
from rlpost.models.download import cache_dir
from rlpost.verify_resume import compared
from tests import forked

SHORT = (
    "model=tiny", "trainer.max_steps=4", "trainer.save_steps=1", "evaluation.tasks=0", "dataset.train_size=16",
    "trainer.learning_rate=0.05", "trainer.per_device_train_batch_size=8",
)  # fmt: skip
GRPO = ("grpo", *SHORT, "rollout.num_generations=4", "rollout.max_tokens=8")
CACHED = ("reward=[correct,elliptical]", "scorer@models.encoder=own", "models.encoder.cache=true")
MOVING = ("reference=moving_average", "reference.decay=0.5", "reference.every=1", "regularizer=[kl_k3]")
RUNS = {
    "curriculum, moving reference, two passes": (*GRPO, "curriculum=dump", *MOVING, "trainer.num_iterations=2"),
    "replay buffer, curriculum": (*GRPO, "replay=selective", "curriculum=sec"),
    "running counts in a reward": (*GRPO, "recipe=outcome_exploration"),
    "reward cache": (*GRPO, *CACHED),
    "sft": ("sft", *SHORT),
    "dpo": ("dpo", *SHORT),
}
START, BETWEEN = "start", "between phases"
GONE = -signal.SIGKILL
Event = tuple[str, str, float]  # "+" begins and "-" ends, the phase, when (seconds of the monotonic clock)


@dataclass(frozen=True)
class Point:
    """A moment of a run: so many seconds after its event number `after` (0: after its start), which is in `phase`."""

    after: int
    delay: float
    phase: str


@dataclass
class Tally:
    """What came of the kills: in which phase they fell, and what was lost or differed."""

    fell: Counter = field(default_factory=Counter)
    missed: int = 0  # the process had ended before
    anew: int = 0  # there was no run folder yet that could be continued
    faults: list[str] = field(default_factory=list)


def told(place: str, after: str, delay: str, command: str, *overrides: str) -> None:
    """In the child: rlpost itself, which writes down its phases and is killed `delay` seconds after event `after`."""
    log = os.open(place, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    from rlpost.now import Now

    silent, number = Now.phase, 0

    def write(kind: str, name: str) -> None:
        nonlocal number
        number += 1
        os.write(log, f"{kind} {name} {time.monotonic()}\n".encode())
        if number == int(after):
            kill_in(float(delay))

    @contextlib.contextmanager
    def phase(self: Now, name: str) -> Iterator[None]:
        with silent(self, name):
            write("+", name)
            yield
        write("-", name)

    Now.phase = phase
    sys.argv = ["rlpost", command, *overrides]
    from rlpost.cli import main

    if after == "0":
        kill_in(float(delay))
    main()


def kill_in(seconds: float) -> None:
    """SIGKILL for this process from a timer of the kernel: no Python, no other process, has to get a turn for it."""
    if seconds <= 0:
        os.kill(os.getpid(), signal.SIGKILL)
    libc = ctypes.CDLL(None, use_errno=True)
    event = (ctypes.c_char * 64)()  # struct sigevent: value, signal, way of telling (0: by signal)
    struct.pack_into("qii", event, 0, 0, signal.SIGKILL, 0)
    timer = ctypes.c_void_p()
    length = struct.pack("qqqq", 0, 0, int(seconds), max(int(seconds % 1 * 1e9), 1))
    made = libc.timer_create(time.CLOCK_MONOTONIC, event, ctypes.byref(timer))
    if made or libc.timer_settime(timer, 0, length, None):
        raise OSError(ctypes.get_errno(), "no timer")


def run(place: Path, command: str, *overrides: str, kill: Point | None = None) -> tuple[int, list[Event], float, str]:
    """Start a run and kill it at the point: exit code, its events, when it started, and what it said at last."""
    log = place / "events"
    log.unlink(missing_ok=True)
    begun = time.monotonic()
    when = (str(kill.after), str(kill.delay)) if kill else ("-1", "0")
    own = {"RLPOST_CACHE": str(_cache(place))}
    child = forked.start(__file__, "--child", str(log), *when, command, *overrides, output=place / "said", env=own)
    return child.wait(), _events(log), begun, (place / "said.err").read_text(encoding="utf-8")[-1500:]


def _cache(place: Path) -> Path:
    """A cache of its own, in which a kill may leave what it wants; data sets, which never change, are shared."""
    own, shared = place / "cache", cache_dir() / "datasets"
    if not own.exists():
        shared.mkdir(parents=True, exist_ok=True)
        own.mkdir()
        (own / "datasets").symlink_to(shared)
    return own


def _events(log: Path) -> list[Event]:
    if not log.exists():
        return []
    lines = log.read_text(encoding="utf-8").split("\n")[:-1]
    return [(kind, name, float(moment)) for kind, name, moment in (line.split(" ") for line in lines)]


def stretches(events: list[Event], begun: float, ended: float) -> list[tuple[str, float]]:
    """The run cut at its events: for each stretch the innermost phase in which it lies, and its seconds."""
    found, inside, before = [], [], begun
    for kind, name, moment in [*events, ("", "", ended)]:
        label = inside[-1] if inside else BETWEEN if found else START
        found.append((label, moment - before))
        inside = [*inside, name] if kind == "+" else inside[:-1]
        before = moment
    return found


def points(cut: list[tuple[str, float]], number: int, chance: random.Random) -> list[Point]:
    """As many points in every phase; in it any of its stretches, and in that any moment, are as likely."""
    phases = sorted({label for label, _ in cut})
    made = []
    for i in range(number):
        phase = phases[i % len(phases)]
        after = chance.choice([k for k, (label, _) in enumerate(cut) if label == phase])
        made.append(Point(after, chance.uniform(0, cut[after][1]), phase))
    return made


def trial(place: Path, words: tuple[str, ...], whole: Path, first: Point, again: Point | None, tally: Tally) -> None:
    """Kill, continue (and perhaps be killed again at any moment), continue to the end, compare."""
    command, *overrides = words
    folder = place / "run"
    for point in (first, again, None):
        known = (folder / "overrides.txt").is_file()
        if not known and folder.exists():
            shutil.rmtree(folder)
            tally.anew += 1
        given = [f"resume={folder}"] if known else [*overrides, f"run.dir={folder}"]
        code, events, _, said = run(place, command, *given, kill=point)
        if code not in (0, GONE):
            tally.faults.append(f"{command} {first}: exit code {code} from {' '.join(given)}: {said}")
            return
        if point:
            tally.missed += code == 0
            if code == GONE:
                tally.fell[stretches(events, 0.0, 0.0)[-1][0] if events else START] += 1
    try:
        compared(whole, folder)
    except RlpostError as error:
        tally.faults.append(f"{command} {first}, {again}: {error}")


def campaign(names: list[str], number: int, seed: int, place: Path) -> dict[str, Tally]:
    """Kill each of the named runs at its share of the points."""
    chance = random.Random(seed)
    tallies = {}
    for k, name in enumerate(names):
        command, *overrides = RUNS[name]
        home = place / str(k)
        home.mkdir(parents=True)
        code, events, begun, said = run(home, command, *overrides, f"run.dir={home / 'whole'}")
        if code:
            raise SystemExit(f"the run of {name!r} ended with exit code {code} by itself: {said}")
        cut = stretches(events, begun, time.monotonic())
        tally = tallies[name] = Tally()
        wanted = number // len(names) + (k < number % len(names))
        chosen = points(cut, wanted - wanted // 4, chance)
        length = sum(seconds for _, seconds in cut)
        for i, point in enumerate(track(chosen, f"{name}: {wanted} kills", console=Console(stderr=True))):
            again = Point(0, chance.uniform(0, length), "any") if i < wanted // 4 else None
            trial(_fresh(home / "trial"), RUNS[name], home / "whole", point, again, tally)
    return tallies


def _fresh(place: Path) -> Path:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    return place


def shown(tallies: dict[str, Tally]) -> Table:
    """A row per run: kills by phase, what was missed, and what differed."""
    phases = sorted({phase for tally in tallies.values() for phase in tally.fell})
    table = Table("run", *phases, "kills", "after its end", "started anew", "lost or different")
    for name, tally in tallies.items():
        counts = [str(tally.fell[phase]) for phase in phases]
        sums = (tally.fell.total(), tally.missed, tally.anew, len(tally.faults))
        table.add_row(name, *counts, *map(str, sums))
    total = sum((tally.fell for tally in tallies.values()), Counter())
    sums = [sum(each) for each in zip(*((t.missed, t.anew, len(t.faults)) for t in tallies.values()), strict=True)]
    table.add_row("all", *(str(total[phase]) for phase in phases), str(total.total()), *map(str, sums))
    return table


def main() -> None:
    """The command line."""
    if sys.argv[1:2] == ["--child"]:
        told(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=240)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", nargs="*", choices=RUNS, default=list(RUNS), metavar="NAME")
    given = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="rlpost-kills-") as place:
        tallies = campaign(given.runs, given.kills, given.seed, Path(place))
    console = Console(width=200)
    console.print(shown(tallies))
    faults = [fault for tally in tallies.values() for fault in tally.faults]
    console.print(*faults, f"{time.monotonic() - begun:.0f} s", sep="\n", markup=False)
    raise SystemExit(bool(faults))


if __name__ == "__main__":
    main()
