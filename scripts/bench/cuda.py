"""Time on a GPU, between two of its events, and what must be free before a goal starts.

None of this has run yet: it was written on a machine without a GPU.
"""

import gc
from collections.abc import Callable, Mapping

import torch

from scripts.bench.record import Case, NotMeasured, Run, Times


def missing() -> str:
    """Why nothing can be measured here, in a sentence; empty where it can."""
    return "" if torch.cuda.is_available() else "no CUDA GPU is at hand; make bench-gpu measures H1 to H10 on one"


def race(runs: Mapping[str, Run], repeats: int) -> Times:
    """The runs take turns; milliseconds between two events on the device, fastest of `repeats` after two to warm up."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(repeats + 2):
        for name, run in runs.items():
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize()
            start.record()
            run()
            end.record()
            torch.cuda.synchronize()
            if number >= 2:
                found[name].append(start.elapsed_time(end))
    return Times({n: min(ms) for n, ms in found.items()}, max(max(ms) / min(ms) for ms in found.values()))


def alone(measure: Callable[[int], list[Case]]) -> Callable[[int], list[Case]]:
    """The same measurement after the memory of the goal before it is given back: a taught model is a cycle.

    Raises NotMeasured where the GPU is too small.
    """

    def measured(repeats: int) -> list[Case]:
        gc.collect()
        torch.cuda.empty_cache()
        try:
            return measure(repeats)
        except torch.OutOfMemoryError as error:
            raise NotMeasured(f"the memory of this GPU does not hold it: {str(error).splitlines()[0]}") from None

    return measured
