"""Drawing again until enough groups stay: what fills a step whose `keep` rules drop groups."""

from collections.abc import Callable, Sequence
from typing import TypeVar

Drawn = TypeVar("Drawn")


def fill(
    wanted: int, draw: Callable[[int], Drawn], staying: Callable[[Sequence[Drawn]], int], *, max_draws: int = 1
) -> list[Drawn]:
    """Draw `wanted` prompts, then as many as are missing, until `wanted` groups stay; every draw, in order.

    `draw(n)` returns what n prompts gave, `staying(draws)` how many groups of all draws so far stay. At most
    `max_draws * wanted` prompts are drawn: with 1 nothing is drawn again, and a step may end short of `wanted`.
    Each round's completions are those of the current policy; nothing is left over for the next step.
    """
    draws: list[Drawn] = []
    asked, missing = 0, wanted
    while missing > 0 and asked < max_draws * wanted:
        n = min(missing, max_draws * wanted - asked)
        draws.append(draw(n))
        asked += n
        if asked < max_draws * wanted:
            missing = wanted - staying(draws)
    return draws
