"""A model option without its weights: shapes on the meta device, with the tokenizer and media encoder of the run."""

import contextlib
import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, GenerationConfig, PreTrainedModel
from transformers.models.auto import modeling_auto
from transformers.models.auto.auto_factory import _BaseAutoModelClass

from rlpost.errors import ModelError, RlpostError
from rlpost.models.encode import Bundle
from rlpost.models.roles import start_from, with_adapter
from rlpost.models.scalar import score_adapter, with_score_head
from rlpost.models.trusted import known_attention
from rlpost.nodes import build

# Options that fetch or convert something before they load it: what prepares it, once, outside of the meta device.
PREPARED = {"rlpost.models.load.embedded": "rlpost.models.load.smollm2_folder"}
# Options that would train when nothing is cached: the option of the same shape, and the knobs that it shares.
SAME_SHAPE = {"rlpost.models.cold_start.video_tiny_started": ("rlpost.models.tiny_video.video_tiny", ("seed",))}


def skeleton(node: Mapping[str, Any]) -> Bundle:
    """What the model option `node` returns, its parameters on the meta device.

    The option's own function runs; only reading weights is left out. Raises ModelError where it cannot do without.
    """
    target = str(node["_target_"])
    if target in PREPARED:
        module, _, name = PREPARED[target].rpartition(".")
        getattr(importlib.import_module(module), name)()
    if target in SAME_SHAPE:
        target, shared = SAME_SHAPE[target]
        node = {"_target_": target, **{knob: node[knob] for knob in shared if knob in node}}
    try:
        with weightless():
            return build(dict(node))()
    except RlpostError:
        raise
    except (NotImplementedError, RuntimeError) as error:
        raise ModelError(
            f"{target} cannot be built without its weights ({str(error).splitlines()[0]}); a plan needs its shapes"
        ) from error


def as_trained(bundle: Bundle, command: str, tree: Mapping[str, Any]) -> Any:
    """The model that the run of `command` would train: with its score head and its adapter. Raises ModelError."""
    init, peft = tree.get("init"), tree.get("peft")
    with weightless():
        if init is not None and not _is_adapter(init):  # an adapter that is merged changes no shape
            bundle = start_from(bundle, init)
        if command == "reward":
            bundle.model = with_score_head(bundle, seed=int(tree.get("seed") or 0))
            peft = score_adapter(peft)
        return with_adapter(bundle.model, peft)


def _is_adapter(folder: Any) -> bool:
    return (Path(folder) / "adapter_config.json").is_file()


@contextlib.contextmanager
def weightless() -> Iterator[None]:
    """Models that are made inside have shapes and no values, and `from_pretrained` reads configurations alone."""
    stand_ins = {PreTrainedModel: _of_class, **dict.fromkeys(_auto_classes(), _of_auto)}
    kept = {kind: kind.__dict__["from_pretrained"] for kind in stand_ins}
    for kind, stand_in in stand_ins.items():
        kind.from_pretrained = classmethod(stand_in)  # type: ignore[method-assign]
    try:
        with torch.device("meta"):
            yield
    finally:
        for kind, own in kept.items():
            kind.from_pretrained = own


def _auto_classes() -> list[Any]:
    """Every auto class with a `from_pretrained` of its own, which it copied when its module was imported.

    So that module is imported before anything is replaced: imported later, its classes would copy the stand-in, and
    every model that this process reads afterwards would have random weights.
    """
    kinds = [kind for kind in vars(modeling_auto).values() if isinstance(kind, type)]
    return [kind for kind in kinds if issubclass(kind, _BaseAutoModelClass) and "from_pretrained" in vars(kind)]


def _of_auto(kind: Any, source: str, *_: Any, **chosen: Any) -> Any:
    config = AutoConfig.from_pretrained(source, revision=chosen.get("revision"), trust_remote_code=False)
    known_attention(config, source)
    attention = {name: chosen[name] for name in ("attn_implementation",) if chosen.get(name)}
    return _finished(kind.from_config(config, dtype=chosen.get("dtype"), **attention), source, chosen)


def _of_class(kind: Any, source: str, *_: Any, **chosen: Any) -> Any:
    config = kind.config_class.from_pretrained(source, revision=chosen.get("revision"), trust_remote_code=False)
    return _finished(kind._from_config(config, dtype=chosen.get("dtype")), source, chosen)


def _finished(model: Any, source: str, chosen: Mapping[str, Any]) -> Any:
    """The stop tokens of a model stand in its generation configuration, which is no weight."""
    with contextlib.suppress(OSError, ValueError):
        model.generation_config = GenerationConfig.from_pretrained(
            source, revision=chosen.get("revision") or "main", trust_remote_code=False
        )
    loaded = dict.fromkeys(("missing_keys", "unexpected_keys", "mismatched_keys"), ())
    return (model, loaded) if chosen.get("output_loading_info") else model
