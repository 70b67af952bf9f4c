"""From a checked configuration to the built parts of a run; no method is named here."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from rlpost.config import build
from rlpost.isolated import Isolated
from rlpost.models.scorer.roles import Models
from rlpost.nodes import target
from rlpost.rollout.engine import Sampling
from rlpost.source import signature
from rlpost.stack import Reward, RewardStack
from rlpost.step import Coefficient, Method, Term, TokenWeight

Tree = Mapping[str, Any]


def with_states(tree: Tree) -> tuple[Tree, dict[str, Any]]:
    """The tree with every copy of a schedule that remembers replaced by one object, and these objects by name.

    Knobs name a schedule through an interpolation, which copies its node; what remembers must be shared instead.
    """
    nodes = {
        name: node
        for name, node in (tree.get("schedules") or {}).items()
        if signature(str(node["_target_"])).kind == "class"
    }
    made = {name: build(dict(node)) for name, node in nodes.items()}

    def shared(value: Any) -> Any:
        for name, node in nodes.items():
            if value == node:
                return made[name]
        if isinstance(value, Mapping):
            return {key: shared(one) for key, one in value.items()}
        return [shared(one) for one in value] if isinstance(value, list) else value

    return shared(tree) if nodes else tree, made


def reward_stack(tree: Tree) -> RewardStack:
    """The rewards of `tree["reward"]` in their order."""
    nodes = tree.get("reward") or {}
    return RewardStack(
        {
            name: Reward(_reward(name, node), coefficient(node.get("weight", 1.0)), node.get("when") or {})
            for name, node in nodes.items()
        },
        Models(tree.get("models")),
    )


def _reward(name: str, node: Tree) -> Any:
    """The function that a node names, in a process of its own where it has a time limit."""
    limit = node.get("time_limit")
    return build(dict(node)) if limit is None else Isolated(name, dict(node), float(limit))


def method(tree: Tree, *, objective: str = "objective") -> Method:
    """The picks that decide credit and loss; `objective` names the axis of the main loss (`sft_loss` for `sft`)."""
    many = {axis: tree.get(axis) or {} for axis in ("shaping", "keep", "token_weight", "regularizer")}
    return Method(
        advantage=build(tree["advantage"]) if tree.get("advantage") else None,
        aggregate=build(tree["aggregate"]),
        objective=term(objective, tree[objective]),
        regularizer=tuple(term(name, node) for name, node in many["regularizer"].items()),
        shaping={name: build(node) for name, node in many["shaping"].items()},
        keep={name: build(node) for name, node in many["keep"].items()},
        token_weight={
            name: TokenWeight(build(node), bool(node.get("renormalise", False)))
            for name, node in many["token_weight"].items()
        },
    )


def term(name: str, node: Tree) -> Term:
    """One addend of the loss with its coefficient and, where it has one, its own aggregate."""
    aggregate = node.get("aggregate")
    return Term(name, build(dict(node)), coefficient(node.get("coef", 1.0)), build(aggregate) if aggregate else None)


def stream(name: str, node: Tree) -> Method:
    """The loss of an auxiliary stream: one term `aux/<name>` with its own aggregate and coefficient."""
    return Method(
        advantage=None,
        aggregate=build(node["aggregate"]),
        objective=Term(f"aux/{name}", build(node["loss"]), coefficient(node.get("coef", 1.0))),
    )


def coefficient(node: Any) -> Coefficient:
    """A number, or the schedule that a node names."""
    return build(dict(node)) if isinstance(node, Mapping) else float(node)


def sampling(rollout: Tree) -> Sampling:
    """How completions are drawn, from the reserved keys of the rollout node.

    A rollout function may name a kind of its own (its attribute `sampling`), whose further fields are its knobs.
    """
    kind = getattr(target(rollout), "sampling", Sampling) if "_target_" in rollout else Sampling
    own = [field.name for field in fields(kind) if field.name not in {plain.name for plain in fields(Sampling)}]
    return kind(
        max_tokens=int(rollout["max_tokens"]),
        temperature=float(rollout["temperature"]),
        top_p=float(rollout["top_p"]),
        top_k=int(rollout.get("top_k") or 0),
        **{name: rollout[name] for name in own if name in rollout},
    )
