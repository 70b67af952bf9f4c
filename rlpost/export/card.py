"""README.md of an exported folder: what it is, how it was trained, how it samples, and what was checked."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rlpost import __version__
from rlpost.export.source import Source
from rlpost.export.verify import Check
from rlpost.models.encode import Bundle

SAMPLING = ("temperature", "top_p", "top_k", "max_tokens")
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def text(
    source: Source,
    bundle: Bundle,
    *,
    kind: str,
    base: str,
    dtype: str,
    generation: Mapping[str, Any],
    checks: Sequence[Check],
) -> str:
    """The card in Markdown. `kind` is full, adapter or merged, `generation` what stands in generation_config.json."""
    what = {
        "full": "All weights were trained.",
        "adapter": f"This is an adapter; it needs its base `{base}`.",
        "merged": "An adapter was trained and is merged into its base.",
    }[kind]
    recipes = ", ".join(name for name in source.tree.get("about") or {}) or "none"
    rows = [
        ("base", base),
        ("trained with", f"rlpost {__version__}, `rlpost {source.verb}`, recipe {recipes}"),
        ("exported", f"{source.label} of the run {source.run.resolve().name}"),
        ("weights", dtype),
    ]
    parts = [
        _front(source, base, kind),
        f"# {source.run.resolve().name}\n",
        f"{what}\n",
        "| | |\n|---|---|\n" + "\n".join(f"| {name} | {value} |" for name, value in rows) + "\n",
        "## Sampling\n",
        _sampling(source, bundle, generation),
        "## Checked\n",
        _checked(checks),
    ]
    return "\n".join(parts)


def sampled(source: Source) -> str:
    """How completions were drawn while it was trained or measured, in words."""
    node = source.tree.get("rollout") or {}
    return ", ".join(f"{name} {node[name]}" for name in SAMPLING if node.get(name) is not None)


def _front(source: Source, base: str, kind: str) -> str:
    lines = ["library_name: " + ("peft" if kind == "adapter" else "transformers")]
    if _HUB_NAME.fullmatch(base):  # the hub refuses a card whose base is a folder
        lines.append(f"base_model: {base}")
    return "\n".join(["---", *lines, f"tags: [rlpost, {source.verb}]", "---", ""])


def _sampling(source: Source, bundle: Bundle, generation: Mapping[str, Any]) -> str:
    drawn = {k: v for k, v in generation.items() if k in ("do_sample", "temperature", "top_p", "top_k", "min_p")}
    drawn |= {k: v for k, v in generation.items() if "penalty" in k}
    default = ", ".join(f"{k} {v}" for k, v in drawn.items())
    says = f"says {default}" if default else "leaves sampling open: transformers decodes greedily, servers differ"
    stops = ", ".join(f"`{bundle.encoder.tokenizer.convert_ids_to_tokens(i)}`" for i in bundle.encoder.stop_ids)
    drew = sampled(source)
    return (
        f"{f'The run sampled with {drew}' if drew else 'The run sampled nothing'}. `generation_config.json` {says}. "
        f"Set them alike where you hold the model against the run's numbers. It stops at {stops}.\n"
    )


def _checked(checks: Sequence[Check]) -> str:
    if not checks:
        return "Nothing: it was exported without `--verify`.\n"
    return "\n".join(f"- {check.name}: {check.said}" for check in checks) + "\n"
