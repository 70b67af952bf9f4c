"""Datasets: `load(split, *, knobs) -> Sequence[Task]`."""
