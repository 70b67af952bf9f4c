"""Measure rlpost beside what it is held against, in one run. `make bench`, `make bench ARGS="C1 C5"`, `make bench-gpu`.

Takes turns, one thread, the fastest of at least five; a largest error beside each ratio. Exits 8 where an error is
above its bound; a target that is missed is only reported. `--table FILE` writes the figures of an earlier run as
Markdown.
"""

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
FEWEST = 5


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0, 2 for a goal that is unknown or a GPU that is missing, 8 for a wrong answer."""
    asked = _parse(arguments)
    if asked.table:
        from scripts.bench import table

        try:
            found = json.loads(asked.table.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            print(f"error: {asked.table} holds no figures ({error}); run make bench first", file=sys.stderr)
            return 2
        print(table.markdown(found))
        return 0
    if asked.repeats < FEWEST:
        print(f"error: --repeats is {asked.repeats}; the fastest of at least {FEWEST} counts", file=sys.stderr)
        return 2
    _prepare()
    if asked.gpu:
        from scripts.bench import gpu

        reason = gpu.missing()
        if reason:
            print(f"error: {reason}", file=sys.stderr)
            return 2
        goals: Mapping[str, Any] = gpu.GOALS
    else:
        from scripts.bench.goals import GOALS as goals
    unknown = [name for name in asked.goals if name not in goals]
    if unknown:
        print(f"error: unknown goals {', '.join(unknown)}; choose from {', '.join(goals)}", file=sys.stderr)
        return 2
    return measure({name: goals[name] for name in asked.goals or goals}, asked.repeats, asked.out)


def measure(goals: Mapping[str, Any], repeats: int, place: Path) -> int:
    """Measure the goals one after the other; what is done is on disk when one fails."""
    from scripts.bench import table
    from scripts.bench.record import NotMeasured

    records: dict[str, Any] = {}
    broken: list[str] = []
    for name, goal in goals.items():
        begin = time.monotonic()
        print(f"{name} {goal.title} ...", end=" ", flush=True)
        try:
            cases = goal.measure(repeats)
        except NotMeasured as reason:
            records[name] = {"title": goal.title, "kind": goal.kind, "reason": str(reason)}
        else:
            records[name] = goal.record(cases)
            broken += [f"{name} {case.name}" for case in cases if case.broken]
        print(f"{time.monotonic() - begin:.0f} s", flush=True)
        place.write_text(json.dumps(_finite(records), indent=1) + "\n", encoding="utf-8")
    table.show(records)
    print(f"written to {place}")
    if broken:
        print(f"error: wrong answers in {', '.join(broken)}: a ratio beside them means nothing", file=sys.stderr)
        return 8
    return 0


def _finite(value: Any) -> Any:
    """JSON has no NaN: an error that could not be had is null, and counts as above every bound."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _prepare() -> None:
    """One thread, no download, no word to anybody; before torch is imported."""
    for name in THREADS:
        os.environ[name] = "1"
    from rlpost.cli import ENVIRONMENT

    os.environ.update({"HF_HUB_OFFLINE": "1", "RLPOST_ALLOW_TARGETS": "scripts", **ENVIRONMENT})
    import warnings

    warnings.filterwarnings("ignore", category=FutureWarning)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("goals", nargs="*", help="the goals to measure, such as C1 C5; all without any")
    parser.add_argument("--gpu", action="store_true", help="measure H1 to H10 on the GPU at hand")
    parser.add_argument("--repeats", type=int, default=FEWEST, help="repetitions of each run (default %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("bench.json"), help="where the figures go (%(default)s)")
    parser.add_argument("--table", type=Path, help="print a file of figures as Markdown and stop")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # this checkout, and not the folder of this file
    sys.exit(main())
