"""What rollouts note of prompts, for later steps: the same in all processes of a run."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any


class Notes(dict[str, Any]):
    """A dictionary that knows what was written since the last exchange.

    Edge cases: where two processes write one name in a step, the later rank's value holds in both.
    """

    def __init__(self, known: Mapping[str, Any] | None = None):
        super().__init__(known or {})
        self._written: set[str] = set()

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        self._written.add(name)

    def exchange(self, gathered: Callable[[dict[str, Any]], Sequence[Mapping[str, Any]]]) -> None:
        """Hear what every process wrote; `gathered` gives the values of all, in rank order."""
        mine = {name: self[name] for name in sorted(self._written) if name in self}
        for part in gathered(mine):
            super().update(part)
        self._written.clear()
