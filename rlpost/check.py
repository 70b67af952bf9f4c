"""Judge a composed configuration before anything heavy is imported: all faults at once, each with a remedy."""

from typing import Any

from rlpost import catalogue
from rlpost.checks.annotation import wrong
from rlpost.checks.code import code_faults, missing_targets
from rlpost.checks.critic import critic_faults
from rlpost.checks.likelihood import likelihood_faults
from rlpost.checks.limits import limit_faults
from rlpost.checks.node import Place, node_faults
from rlpost.checks.stage import stage_faults
from rlpost.checks.state import state_faults
from rlpost.checks.stream import stream_faults
from rlpost.checks.teacher import teacher_faults
from rlpost.checks.trainer import batch_faults, trainer_faults
from rlpost.config import Config
from rlpost.source import TargetMissing, signature
from rlpost.words import near

TYPES = {
    "seed": "int",
    "run.dir": "str | None",
    "run.name": "str | None",
    "run.report": "bool",
    "resume": "str | None",
    "init": "str | None",
    "built_from": "str | list[str] | None",
    "kernels.prefix": "Literal['auto', 'on', 'off'] | bool | None",  # YAML reads a bare on and off as true and false
    "kernels.completions_at_once": "int | None",
}
TYPES |= {f"ledger.{kind}": "float | None" for kind in ("drop", "cut", "fail")}
PLAIN = ("launch", "logger", "pipeline")
FREE = ("about", "schedules", "models")
MAY_BE_EMPTY = ("peft", "logger", "divergence", "reference", "critic", "replay", "build")


def faults(cfg: Config) -> list[str]:
    """All faults of a configuration that composition did not find."""
    refused = code_faults(cfg.tree)
    if refused:  # what else is wrong with a configuration that may not run is said when it may
        return refused
    axes = [axis for axis in catalogue.command_axes(cfg.command) if axis not in ("recipe", "debug")]
    shapeless = _shape_faults(cfg)
    for axis in axes:
        shapeless += [] if isinstance(cfg.tree.get(axis), dict | type(None)) else _axis_faults(cfg, axis)
    if shapeless:  # what else is wrong cannot be told of such a tree
        return shapeless
    found = _unknown_keys(cfg, axes)
    for axis in axes:
        found += _axis_faults(cfg, axis)
    for name, node in (cfg.tree.get("schedules") or {}).items():
        found += node_faults(node, Place(f"schedules.{name}", "schedules", cfg.command))
    for role, node in (cfg.tree.get("models") or {}).items():
        found += node_faults(node, Place(f"models.{role}", catalogue.ROLES, cfg.command))
    found += state_faults(cfg.tree, cfg.command) + stage_faults(cfg.tree) + likelihood_faults(cfg.command, cfg.tree)
    found += _role_faults(cfg.tree) + _span_faults(cfg.tree) + teacher_faults(cfg.tree)
    found += missing_targets(cfg.tree)
    # A pipeline that does not exist leaves the default one, of whose many stages nobody asked anything.
    if cfg.command == "run" and not any(fault.startswith("unknown pipeline") for fault in cfg.faults):
        from rlpost.pipeline import faults as pipeline_faults

        found += pipeline_faults(cfg)
    if cfg.command == "grpo":
        found += batch_faults(cfg.tree)
        found += _lonely_group(cfg.tree)
        found += critic_faults(cfg.tree)
    found += [fault for fault in limit_faults(cfg.tree) if not _named(fault, found)]
    return found + _divergence_faults(cfg.tree) + _pair_faults(cfg.tree)


def _shape_faults(cfg: Config) -> list[str]:
    """Sections of the command's own YAML, and free ones, that a recipe or an override replaced by something else."""
    own = catalogue.read_yaml(catalogue.recipes_dir() / f"{cfg.command}.yaml")
    sections = {*FREE, *(key for key, value in own.items() if isinstance(value, dict))}
    with_keys = {key: f" with {', '.join(own[key])}" if own.get(key) else "" for key in sections}
    return [
        f"{key} must be a mapping{with_keys[key]}, not {cfg.tree[key]!r}"
        for key in sorted(sections)
        if key in cfg.tree and not isinstance(cfg.tree[key], dict)
    ]


def _named(fault: str, found: list[str]) -> bool:
    """Whether the key that a fault is about has one already."""
    key = fault.partition(":")[0]
    return any(one.startswith((f"{key}:", f"{key}=", f"{key} ")) for one in found)


def _unknown_keys(cfg: Config, axes: list[str]) -> list[str]:
    own = catalogue.read_yaml(catalogue.recipes_dir() / f"{cfg.command}.yaml")  # a recipe adds no keys to it
    schema = {**cfg.schema, **own}
    legal = [*axes, *(key for key in own if key not in (*axes, "defaults")), "schedules", "models", "recipe", "debug"]
    found = []
    for key, value in cfg.tree.items():
        if key not in legal or (key not in own and key not in axes and key not in FREE):
            hint = near(key, legal) or f"; the keys are {', '.join(dict.fromkeys(legal))}"
            found.append(f"unknown key {key!r}{hint}")
        elif key not in axes and key not in FREE and schema.get(key) and isinstance(schema[key], dict):
            found += _plain_keys(key, value, schema[key])
    for key, annotation in TYPES.items():
        node: Any = cfg.tree
        for part in key.split("."):
            node = node.get(part) if isinstance(node, dict) else None
        why = wrong(node, annotation)
        if why:
            found.append(f"{key}: {why}")
    return found


def _plain_keys(path: str, node: Any, schema: dict[str, Any]) -> list[str]:
    """Keys of a node without a function: those its YAML has."""
    if not isinstance(node, dict):
        keys = ", ".join(schema) if isinstance(schema, dict) else ""
        return [f"{path} must be a mapping with {keys or 'the keys of an option'}, not {node!r}"]
    found = []
    schema = schema if isinstance(schema, dict) else {}
    for key, value in node.items():
        if key not in schema:
            found.append(f"unknown key '{path}.{key}'{near(key, schema) or '; it has ' + ', '.join(schema)}")
        elif isinstance(value, str) and value == "???":
            found.append(f"{path}.{key} has no default: set {path}.{key}=<value>")
        elif value is not None and isinstance(schema[key], bool | int | float) and f"{path}.{key}" not in TYPES:
            why = wrong(value, type(schema[key]).__name__)
            found += [f"{path}.{key}: {why} (default {schema[key]!r})"] if why else []
    return found


def _axis_faults(cfg: Config, axis: str) -> list[str]:
    node = cfg.tree.get(axis)
    if axis == "trainer":
        if not isinstance(node, dict):
            return [f"trainer is {node!r}; pick one: trainer=<name>"]
        return trainer_faults(cfg.command, node, cfg.schema.get("trainer") or {})
    if axis in PLAIN:
        return _plain_keys(axis, node, cfg.schema.get(axis) or {}) if node is not None and axis != "pipeline" else []
    if axis in catalogue.MANY:
        return _many_faults(cfg, axis, node)
    if node is None and axis in MAY_BE_EMPTY:
        return []
    if node is None and f"unknown {axis} " in " ".join(cfg.faults):
        return []
    return node_faults(node, Place(axis, axis, cfg.command))


def _many_faults(cfg: Config, axis: str, node: Any) -> list[str]:
    if isinstance(node, dict) and "_target_" in node:
        return [f"{axis} takes several functions by name: an option file begins with `# @package {axis}.<name>`"]
    if not isinstance(node, dict):
        return [f"{axis} must be a mapping of names to functions; pick options: {axis}=[a,b]"]
    found = [fault for name, one in node.items() for fault in _one_of_many(cfg, axis, name, one)]
    unmet = any(f"unknown {axis} " in fault for fault in cfg.faults)
    if axis == "reward" and not node and not unmet and cfg.command in ("grpo", "eval", "sample"):
        options = ", ".join(catalogue.options("reward", [catalogue.recipes_dir()]))
        found.append(f"there is no reward: pick at least one, reward=[<name>]; there are {options}")
    return found


def _one_of_many(cfg: Config, axis: str, name: str, node: Any) -> list[str]:
    """An entry that no option made is most likely a misspelt name of one that is there."""
    others = [other for other, n in (cfg.schema.get(axis) or {}).items() if other != name]
    given = isinstance(node, dict) and ("loss" if axis == "aux" else "_target_") in node
    if isinstance(node, dict) and not given and name not in (cfg.schema.get(axis) or {}):
        hint = near(name, others) or (f"; it has {', '.join(others)}" if others else "")
        return [f"unknown key '{axis}.{name}'{hint}; to add an option: {axis}=[...,{name}]"]
    if axis == "aux":
        return stream_faults(name, node, cfg.command)
    return node_faults(node, Place(f"{axis}.{name}", axis, cfg.command))


def _divergence_faults(tree: dict[str, Any]) -> list[str]:
    """Functions that read a divergence over the vocabulary when none is picked."""
    if tree.get("divergence"):
        return []
    nodes = {axis: tree.get(axis) for axis in ("objective", "sft_loss")}
    nodes |= {f"regularizer.{name}": node for name, node in (tree.get("regularizer") or {}).items()}
    nodes |= {
        f"aux.{name}.loss": node.get("loss") for name, node in (tree.get("aux") or {}).items() if isinstance(node, dict)
    }
    options = ", ".join(catalogue.options("divergence", [catalogue.recipes_dir()]))
    return [
        f"{path}: {str(node['_target_']).rpartition('.')[2]} reads {field!r}, but no divergence is picked; "
        f"set divergence=<name>; there are {options}"
        for path, node in nodes.items()
        if isinstance(node, dict)
        for field in ("ref_divergence", "teacher_divergence")
        if field in _reads(node)
    ]


def _role_faults(tree: dict[str, Any]) -> list[str]:
    """Rewards, and a rollout with a judge, that ask a second model which is not configured."""
    options = ", ".join(catalogue.options(catalogue.ROLES, [catalogue.recipes_dir()]))
    asked = {
        f"reward.{name}": node.get("role")
        for name, node in (tree.get("reward") or {}).items()
        if isinstance(node, dict) and "models" in _reads(node)
    }
    rollout = tree.get("rollout")
    if isinstance(rollout, dict) and rollout.get("judge"):
        asked["rollout"] = rollout["judge"]
    return [
        f"{path} asks models.{role}, which is not configured: scorer@models.{role}=<name>; there are {options}"
        for path, role in asked.items()
        if role not in (tree.get("models") or {})
    ]


def _span_faults(tree: dict[str, Any]) -> list[str]:
    """Functions that read scores of spans when every reward says that it scores rows; one without a type may do it."""
    rewards = [node for node in (tree.get("reward") or {}).values() if isinstance(node, dict)]
    if not rewards or any(_may_score_spans(node) for node in rewards):
        return []
    nodes = {"advantage": tree.get("advantage")}
    nodes |= {
        f"{axis}.{k}": node
        for axis in ("shaping", "keep", "token_weight")
        for k, node in (tree.get(axis) or {}).items()
    }
    return [
        f"{path}: {str(node['_target_']).rpartition('.')[2]} reads 'span_rewards', but no reward scores spans; add one "
        f"that does: reward=[{','.join(tree['reward'])},step_scores]"
        for path, node in nodes.items()
        if isinstance(node, dict) and "span_rewards" in _reads(node)
    ]


def _may_score_spans(node: dict[str, Any]) -> bool:
    try:
        returns = signature(str(node.get("_target_"))).returns
    except TargetMissing:
        return True
    return not returns or "SpanScores" in returns or "list[list" in returns or "Any" in returns


def _pair_faults(tree: dict[str, Any]) -> list[str]:
    """Functions that read comparisons within a group when no reward makes them."""
    rewards = [node for node in (tree.get("reward") or {}).values() if isinstance(node, dict)]
    if any("pairwise" in _decorators(node) for node in rewards):
        return []
    nodes = {"advantage": tree.get("advantage")}
    nodes |= {f"{axis}.{name}": node for axis in ("shaping", "keep") for name, node in (tree.get(axis) or {}).items()}
    return [
        f"{path}: {str(node['_target_']).rpartition('.')[2]} reads 'pair_rewards', but no reward compares within the "
        "group; add one that does, such as '+reward=[pair_judge]'"
        for path, node in nodes.items()
        if isinstance(node, dict) and "pair_rewards" in _reads(node)
    ]


def _decorators(node: dict[str, Any]) -> tuple[str, ...]:
    try:
        return signature(str(node.get("_target_"))).decorators
    except TargetMissing:
        return ()


def _reads(node: dict[str, Any]) -> tuple[str, ...]:
    try:
        return signature(str(node.get("_target_"))).reads
    except TargetMissing:
        return ()


def _lonely_group(tree: dict[str, Any]) -> list[str]:
    advantage, rollout = tree.get("advantage"), tree.get("rollout")
    if not isinstance(advantage, dict) or not isinstance(rollout, dict) or rollout.get("num_generations") != 1:
        return []
    if "group" not in _reads(advantage):
        return []
    name = str(advantage["_target_"]).rpartition(".")[2]
    return [
        f"advantage {name} compares the completions of a prompt with each other, but rollout.num_generations=1 gives "
        "it one; set rollout.num_generations=2 or more, or pick an advantage that does not read `group`"
    ]
