"""Start `rlpost` on broken configurations, each in a process of its own, and say how each was answered.

`python scripts/fuzz.py [COUNT] [SEED]` prints a table and exits with 1 where an answer was wrong or slow.
"""

import collections
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.broken import cases
from tests.fuzz.test_broken import fault, lay

LIMIT_S, PATIENCE_S = 3.0, 60
ROOT = Path(__file__).resolve().parents[1]


def main(count: int = 500, seed: int = 5) -> int:
    """Run them all; the time of a case is that of the wall clock, beside it the processor's."""
    codes: collections.Counter[int] = collections.Counter()
    kinds: dict[str, list[float]] = {}
    busy, wrong, slow = 0.0, list[str](), list[str]()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RLPOST_ALLOW_TARGETS": ""}
    for case in cases(count, seed):
        with tempfile.TemporaryDirectory() as place:
            lay(case.files, Path(place))
            words = [word.replace("\x00", "\\x00") for word in case.words]  # no process can be given a zero byte
            before, began = _processor(), time.monotonic()
            line = [sys.executable, "-m", "rlpost", *words]
            try:
                done = subprocess.run(
                    line, cwd=place, env=environment, capture_output=True, timeout=PATIENCE_S, check=False
                )
                why = fault(done.returncode, done.stderr.decode(errors="replace"), case)
                codes[done.returncode] += 1
            except subprocess.TimeoutExpired:
                why = f"no answer in {PATIENCE_S} s"
            took, used = time.monotonic() - began, _processor() - before
            why = "a file was run" if Path(place, "ran").exists() else why
        kinds.setdefault(case.kind, []).append(took)
        busy = max(busy, used)
        if why:
            wrong.append(f"{' '.join(words)[:120]}: {why}")
        if took >= LIMIT_S:
            slow.append(f"{' '.join(words)[:120]}: {took:.1f} s, {used:.1f} s of a processor")
    print(f"{'kind':20} {'n':>4} {'slowest':>8}")
    for kind, times in sorted(kinds.items()):
        print(f"{kind:20} {len(times):4} {max(times):6.2f} s")
    times = sorted(took for one in kinds.values() for took in one)
    print(f"\n{len(times)} broken configurations, seed {seed}: exit codes {dict(sorted(codes.items()))}")
    print(f"median {times[len(times) // 2]:.2f} s, slowest {times[-1]:.2f} s, most processor time {busy:.2f} s")
    print(f"{len(wrong)} wrong answers, {len(slow)} above {LIMIT_S:g} s", *wrong, *slow, sep="\n  ")
    return 1 if wrong or slow else 0


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main(*(int(word) for word in sys.argv[1:])))
