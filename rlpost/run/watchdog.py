"""The watchdog of a run: when a phase exceeds its limit it names the culprit, saves what is safe and ends the process.

A thread looks every second. Code that keeps the interpreter to itself (a regular expression that backtracks for hours)
starves threads, but still answers signals, so a timer of processor time looks as well. What neither releases the
interpreter nor answers signals cannot be ended from inside its own process.
"""

import contextlib
import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rlpost.errors import Hang
from rlpost.now import now
from rlpost.run import files
from rlpost.run.folder import RunFolder

EVERY = 1.0  # seconds between two looks
RESCUE = 120.0  # seconds that saving may take before the process ends without it
FOLDER = "hang"


class Watchdog:
    """Guards a block: `with Watchdog(limits, folder, rank, rescue):`.

    `limits` are seconds per phase of `rlpost.now`; a phase without one, or with None, may take for ever. What is saved
    is the business of `folder.rescue`. `leave` ends the process without asking anybody who may hang as well.
    """

    def __init__(
        self,
        limits: Mapping[str, float | None],
        folder: RunFolder,
        *,
        rank: int = 0,
        leave: Callable[[int], Any] = os._exit,
    ):
        self.limits = {phase: float(limit) for phase, limit in limits.items() if limit is not None}
        self.folder, self.rank, self.leave = folder, rank, leave
        self._ended, self._expiring = threading.Event(), threading.Lock()
        self._before: Any = None

    def __enter__(self) -> "Watchdog":
        if self.limits:
            threading.Thread(target=self._watch, name="rlpost-watchdog", daemon=True).start()
            with contextlib.suppress(ValueError):  # not the main thread, where signals are not ours: the thread looks
                self._before = signal.signal(signal.SIGVTALRM, lambda number, frame: self._look(waits=True))
                signal.siginterrupt(signal.SIGVTALRM, False)
                signal.setitimer(signal.ITIMER_VIRTUAL, EVERY, EVERY)
        return self

    def __exit__(self, *error: Any) -> None:
        self._ended.set()
        if self._before is not None:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
            signal.signal(signal.SIGVTALRM, self._before)

    def _watch(self) -> None:
        while not self._ended.wait(EVERY):
            self._look()

    def _look(self, waits: bool = False) -> None:
        late = now.late(self.limits)
        if late is None or self._ended.is_set():
            return
        if not self._expiring.acquire(blocking=False):
            if waits:  # give way to the thread that writes the end down
                time.sleep(RESCUE)
            return
        try:
            self._expire(*late)
        finally:
            self._expiring.release()

    def _expire(self, phase: str, age: float) -> None:
        """Write down who hangs where, save, and end the process with the exit code of a hang."""
        place = self.folder.path / FOLDER
        facts = {
            "phase": phase,
            "rank": self.rank,
            "seconds": round(age, 1),
            "limit": self.limits[phase],
            "reward": now.reward,
            "sample": now.sample,
        }
        error = Hang(_sentence(facts, place))
        try:
            place.mkdir(parents=True, exist_ok=True)
            with (place / f"stacks-rank{self.rank}.txt").open("w", encoding="utf-8") as file:
                faulthandler.dump_traceback(file, all_threads=True)
            files.write_json(place / f"rank{self.rank}.json", facts)
            saved = self._rescued(place, phase)
            files.write_json(place / f"rank{self.rank}.json", {**facts, "saved": saved})
            print(f"error: {error}" + "".join(f"\n  {line}" for line in saved), file=sys.stderr, flush=True)
            self.folder.done(error)
        finally:
            self.leave(Hang.exit_code)

    def _rescued(self, place: Path, phase: str) -> list[str]:
        """What the rescue saved, within its time; it runs in a thread of its own because it may hang as well."""
        if self.folder.rescue is None:
            return []
        rescue, saved = self.folder.rescue, list[str]()

        def work() -> None:
            try:
                saved.extend(rescue(place, phase))
            except Exception as error:  # whatever it is, the process must still end, and say so
                saved.append(f"nothing was saved: {type(error).__name__}: {error}")

        helper = threading.Thread(target=work, name="rlpost-rescue", daemon=True)
        helper.start()
        helper.join(RESCUE)
        return saved or [f"nothing was saved: it took longer than {RESCUE:.0f} seconds"]


def _sentence(facts: Mapping[str, Any], place: Path) -> str:
    reward = f", in reward '{facts['reward']}'" if facts["reward"] else ""
    sample = f", on {facts['sample']}" if facts["sample"] else ""
    return (
        f"phase '{facts['phase']}' of rank {facts['rank']} has run for {facts['seconds']:.0f} seconds, its limit is "
        f"watchdog.{facts['phase']}={facts['limit']:g}{reward}{sample}; the stacks of all threads are in {place}. "
        f"Raise the limit (null: none)" + (", or give the reward a time_limit" if facts["reward"] else "")
    )
