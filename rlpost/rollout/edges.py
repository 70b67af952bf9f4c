"""Trees of a fixed number of tokens a level, each of whose edges is a row: a piece of text and what came of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, pstdev
from typing import Literal

from rlpost.errors import ConfigError
from rlpost.rollout.context import Context, continued
from rlpost.rollout.start import Start
from rlpost.types import Rollout, Task

Mode = Literal["rloo", "grpo"]


@dataclass
class _Node:
    """A text so far: `row` holds all of it (None: nothing yet), `at` of whose tokens are its parent's."""

    task: Task
    leaves: str  # the group of the task's leaves
    row: Rollout | None = None
    at: int = 0
    value: float = math.nan
    children: list["_Node"] = field(default_factory=list)


def spo_tree(
    tasks: Sequence[Task],
    ctx: Context,
    *,
    branching: Sequence[int] = (6, 6, 6),
    segment: int = 600,
    mode: Mode = "rloo",
    reward: str = "",
) -> list[Rollout]:
    """The edges of a tree of completions, each a row under its parent's text that is worth what its subtree reaches.

    Equation:
        level d: every unfinished node is continued branching[d] times by `segment` tokens, at the last to the end
        V(leaf) = r(x, whole text);  V(node) = mean of its children's values
        a row per node: prompt = (x, the parent's text), tokens = its own, group = its siblings
            rloo: score = V(node), so that advantage group_centred is V(node) - V(parent)
            grpo: score = (V(node) - V(parent)) / (std of the siblings' values + 1e-8), whose mean is 0

    Gradient:
        Only a row's own tokens train.

    Edge cases:
        A node that ends before the last level is a leaf. The last level has what is left of rollout.max_tokens. Rows of
        edges have the role "edge" and are not scored by the run's rewards; the leaves stand beside them, whole and
        untrained, with the role "policy": metrics and curriculum see those. keep trained_rows takes the leaves out of
        the loss, keep off_mean the edges that are worth what their parent is. r is the reward that `reward` names, the
        weighted total where it names none; a leaf to which none applies is left out of the means. The tree has up to
        branching[0] * branching[1] * .. leaves, whatever rollout.num_generations says, which is the number of rows that
        a prompt counts for when prompts are picked.

    Paper:
        Segment Policy Optimization, arXiv 2505.23564: SPO-tree, 6-6-6 and 600 tokens.
        Assumed: the deviation of siblings is the population's.
    """
    room = ctx.sampling.max_tokens - segment * (len(branching) - 1)
    if not branching or min(branching) < 1 or segment < 1 or room < 1:
        raise ConfigError(
            f"rollout spo_tree: branching={list(branching)} needs a number above 0 for each level, and "
            f"rollout.max_tokens={ctx.sampling.max_tokens} room for {len(branching) - 1} levels of segment={segment} "
            "and a last one"
        )
    roots = [_Node(task, name) for task, name in zip(tasks, ctx.new_groups(len(tasks)), strict=True)]
    open_ = roots
    for depth, n in enumerate(branching):
        last = depth == len(branching) - 1
        grown = _grown(open_, n, ctx, room if last else segment)
        open_ = [] if last else [node for node in grown if node.row and node.row.stop == "length"]
    found = [node for root in roots for node in _below(root)]
    leaves = [node for node in found if not node.children]
    for node, value in zip(leaves, ctx.totals([_row(node) for node in leaves], reward=reward), strict=True):
        node.value = value
    for root in roots:
        _valued(root)
    rows = [_row(node) for node in leaves]
    for parent in [*roots, *(node for node in found if node.children)]:
        rows += _edges(parent, mode, ctx)
    return rows


def _grown(nodes: Sequence[_Node], n: int, ctx: Context, room: int) -> list[_Node]:
    starts = [Start.of(node.row, len(node.row.tokens), trains=False) if node.row else Start() for node in nodes]
    rows = ctx.generate(
        [node.task for node in nodes], n, group=[node.leaves for node in nodes],
        prefixes=starts, trains=False, max_tokens=room,
    )  # fmt: skip
    grown = []
    for i, node in enumerate(nodes):
        node.children = [_Node(node.task, node.leaves, row, len(starts[i].tokens)) for row in rows[i * n : (i + 1) * n]]
        grown += node.children
    return grown


def _below(node: _Node) -> list[_Node]:
    return [one for child in node.children for one in (child, *_below(child))]


def _row(node: _Node) -> Rollout:
    assert node.row is not None, "only the root has no row"
    return node.row


def _valued(node: _Node) -> float:
    """V of a node, from those of its children; NaN where no reward applies to any leaf below it."""
    if node.children:
        known = [value for value in map(_valued, node.children) if not math.isnan(value)]
        node.value = fmean(known) if known else math.nan
    return node.value


def _edges(parent: _Node, mode: Mode, ctx: Context) -> list[Rollout]:
    """The rows of a node's children, scored by their values."""
    known = [child.value for child in parent.children if not math.isnan(child.value)]
    base, scale = (parent.value, pstdev(known) + 1e-8) if mode == "grpo" and known else (0.0, 1.0)
    (group,) = ctx.new_groups(1)
    rows = []
    for child in parent.children:
        row = _row(child)
        own = row.tokens[child.at :]
        edge = replace(
            row,
            group=group,
            prompt=continued(row.prompt, row.tokens[: child.at]),
            tokens=own,
            trains=[True] * len(own),
            gen_logp=row.gen_logp[child.at :],
            text=ctx.encoder.decode(own),
            span=[-1] * len(own),
            source=row.source[child.at :],
            role="edge",
            scores={},
            info={"value": child.value, "parent_value": parent.value},
        )
        ctx.worth(edge, None if math.isnan(child.value) else (child.value - base) / scale)
        rows.append(edge)
    return rows
