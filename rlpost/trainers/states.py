"""Schedules that remember, in a GRPO run: what they hear of, when, and what a checkpoint holds of it."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from rlpost.step import Summed
from rlpost.trainers.parts import Parts
from rlpost.trainers.seams import add_up, means_of


class States:
    """The schedules of a run that remember. Before new rollouts they hear the metrics of the last ones and of the steps
    on them, the same on all ranks; a reward's mean is `reward/<name>`, a stream's loss `aux/<name>/mean`.
    """

    def __init__(self, parts: Parts, streams: Sequence[str], accelerator: Any):
        self.all, self.accelerator = parts.states, accelerator
        self._sums: dict[str, Summed] = {}
        known = [*(f"reward/{name}" for name in parts.stack.names), *(f"aux/{name}" for name in streams)]
        for state in self.all.values():
            state.start(known)

    def note(self, metrics: Mapping[str, Summed | float]) -> None:
        """Keep metrics of a micro-batch or of rollouts until the states are told."""
        if self.all:
            add_up(self._sums, metrics)

    def tell(self) -> dict[str, float]:
        """Tell the states what was noted since the last time; returns what they set, for the log."""
        if self.all and self._sums:
            means, self._sums = means_of(self._sums, self.accelerator), {}
            for state in self.all.values():
                state.observe(means)
        return {f"{name}/{of}": value for name, state in self.all.items() for of, value in state.values().items()}

    def state_dict(self) -> dict[str, Any]:
        """What each state remembers, and what it has not been told yet on this rank."""
        noted = {name: [float(one.total), float(one.count)] for name, one in self._sums.items()}
        return {"states": {name: state.state_dict() for name, state in self.all.items()}, "noted": noted}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken; a state that it does not hold starts anew."""
        for name, one in self.all.items():
            if name in state.get("states", {}):
                one.load_state_dict(state["states"][name])
        noted = state.get("noted", {})
        self._sums = {name: Summed(*(torch.tensor(number) for number in pair)) for name, pair in noted.items()}
