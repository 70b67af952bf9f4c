"""What a run takes from earlier runs: built data with the second models it asks, a reference, an optimizer."""

from typing import Any

from rlpost import catalogue
from rlpost.source import TargetMissing, signature

BUILDS_READ = ("models", "rng")


def stage_faults(tree: dict[str, Any]) -> list[str]:
    """Faults of `build`, `built_from` and `trainer.optimizer_from`."""
    return _build_faults(tree) + _optimizer_faults(tree)


def _build_faults(tree: dict[str, Any]) -> list[str]:
    node, sources = tree.get("build"), tree.get("built_from")
    if not isinstance(node, dict):
        options = ", ".join(catalogue.options("build", [catalogue.recipes_dir()]))
        return (
            [f"built_from={sources} is read by no build: pick one, build=<name>; there are {options}"]
            if sources
            else []
        )
    found = []
    if not sources:
        found.append("build needs the run folders whose completions it reads: built_from=[<folder>]")
    try:
        sig = signature(str(node.get("_target_")))
    except TargetMissing:
        return found
    found += [
        f"build: {sig.target.rpartition('.')[2]} reads {name!r}, which a build is not given; there are "
        f"{', '.join(BUILDS_READ)}"
        for name in sig.reads[1:]
        if name not in BUILDS_READ
    ]
    roles = [value for key, value in node.items() if (key == "role" or key.endswith("_role")) and value]
    options = ", ".join(catalogue.options(catalogue.ROLES, [catalogue.recipes_dir()]))
    return found + [
        f"build asks models.{role}, which is not configured: scorer@models.{role}=<name>; there are {options}"
        for role in roles
        if "models" in sig.reads and role not in (tree.get("models") or {})
    ]


def _optimizer_faults(tree: dict[str, Any]) -> list[str]:
    wanted = (tree.get("trainer") or {}).get("optimizer_from")
    if not wanted or not isinstance(tree.get("peft"), dict):
        return []
    return ["trainer.optimizer_from: an adapter starts anew in every run, and so does its optimizer; use peft=none"]
