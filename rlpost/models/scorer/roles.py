"""The second models of a run by role, built when first asked for."""

from collections.abc import Iterator, Mapping
from typing import Any, cast

from rlpost.errors import ConfigError
from rlpost.models.scorer.base import Scorer
from rlpost.nodes import build


class Models(Mapping[str, Scorer]):
    """`models[role]` for the nodes of `models.<role>`; nothing is loaded for a role that nobody asks for.

    Raises ConfigError in a sentence for a role that is not configured.
    """

    def __init__(self, nodes: Mapping[str, Any] | None = None) -> None:
        self._nodes = dict(nodes or {})
        self._built: dict[str, Scorer] = {}

    def __getitem__(self, role: str) -> Scorer:
        if role not in self._nodes:
            there = f"there are {', '.join(self._nodes)}" if self._nodes else "none is configured"
            raise ConfigError(
                f"a second model is asked for as models.{role}, but {there}; set models.{role}, for example "
                f"'models.{role}={{_target_: rlpost.models.scorer.stand_in.StandIn}}'"
            )
        if role not in self._built:
            self._built[role] = cast(Scorer, build(self._nodes[role]))
        return self._built[role]

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)

    def stats(self) -> dict[str, float]:
        """The counts and durations of every model that was used, as `<role>/<name>`."""
        return {f"{role}/{name}": n for role, model in self._built.items() for name, n in model.stats().items()}
