"""Weights of several objectives that follow how each of them goes: schedules that remember, read through `told`."""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from rlpost.errors import ConfigError
from rlpost.words import near

TINY = 1e-8  # a loss that small is no loss: a ratio to it would say nothing


class Recap:
    """Weigh objectives by how slowly and how unsteadily their losses fall (RECAP).

    `objectives` are names such as `reward/correct` and `aux/replay`: the loss of a reward is 1 less its mean over the
    rows that it scored, that of a stream is its own without its coefficient. `window` is in steps.

    Equation:
        mu_k, mut_k = means of the loss of objective k over the latest `window` steps and over those before; sg_k = its
                      standard deviation (population) over the latest
        s_k = mu_k / mut_k + sg_k / (mu_k + mut_k)
        lam = K * softmax(s / temperature) over the K objectives

    Reduces to:
        lam = 1 for a temperature without end, and until every objective has 2 * window losses.

    Edge cases:
        Where mut_k is not above 1e-8 the ratio is 1, where mu_k + mut_k is not, the other is 0: a reward that is always
        full counts like a loss that stands still. One that is almost always full is unsteady by this measure: losses of
        0 but for a rare failure have sg far above mu. A step in which an objective has no loss is not in its windows.

    Paper:
        Beyond Reasoning Gains: Mitigating General Capabilities Forgetting in Large Reasoning Models (RECAP),
        arXiv 2510.21978; temperature 5. Assumed: window 10; rewards lie between 0 and 1.
    """

    def __init__(self, *, objectives: Sequence[str], temperature: float = 5.0, window: int = 10) -> None:
        if len(set(objectives)) != len(objectives) or len(objectives) < 2 or temperature <= 0 or window < 1:
            raise ConfigError(
                f"Recap weighs two or more different objectives with temperature > 0 and window >= 1; they are "
                f"{', '.join(objectives) or 'none'}, temperature={temperature:g}, window={window}"
            )
        self.temperature, self.window = temperature, window
        self._losses: dict[str, deque[float]] = {name: deque(maxlen=2 * window) for name in objectives}
        self._values = dict.fromkeys(objectives, 1.0)

    def start(self, known: Sequence[str]) -> None:
        """Learn what there is. Raises ConfigError for an objective that is neither a reward nor a stream of the run."""
        for name in self._losses:
            if name not in known:
                hint = near(name, known) or f"; there are {', '.join(known)}"
                raise ConfigError(f"Recap weighs {name!r}, which is no reward and no stream of this run{hint}")

    def observe(self, metrics: Mapping[str, float]) -> None:
        """Take in the metrics of a step and set the weights of the next one."""
        for name, losses in self._losses.items():
            if name.startswith("reward/") and name in metrics:
                losses.append(1.0 - metrics[name])
            elif f"{name}/mean" in metrics:
                losses.append(metrics[f"{name}/mean"])
        self._set()

    def values(self) -> dict[str, float]:
        """lam by objective."""
        return dict(self._values)

    def state_dict(self) -> dict[str, Any]:
        """The losses in both windows."""
        return {"losses": {name: list(losses) for name, losses in self._losses.items()}, "window": self.window}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken. Raises ConfigError for other objectives or another window."""
        if list(state["losses"]) != list(self._losses) or state["window"] != self.window:
            raise ConfigError(
                f"the checkpoint weighs {', '.join(state['losses'])} over {state['window']} steps, this run "
                f"{', '.join(self._losses)} over {self.window}; continue with the same objectives and window"
            )
        for name, losses in state["losses"].items():
            self._losses[name] = deque(losses, maxlen=2 * self.window)
        self._set()

    def _set(self) -> None:
        if any(len(losses) < 2 * self.window for losses in self._losses.values()):
            return
        sizes = [self._slowness(losses) / self.temperature for losses in self._losses.values()]
        shares = [math.exp(size - max(sizes)) for size in sizes]
        self._values = {
            name: len(shares) * share / math.fsum(shares) for name, share in zip(self._losses, shares, strict=True)
        }

    def _slowness(self, losses: deque[float]) -> float:
        before = math.fsum(islice(losses, self.window)) / self.window
        latest = list(islice(losses, self.window, None))
        now = math.fsum(latest) / self.window
        spread = math.sqrt(math.fsum((loss - now) ** 2 for loss in latest) / self.window)
        ratio = now / before if before > TINY else 1.0
        return ratio + (spread / (now + before) if now + before > TINY else 0.0)
