"""The models of a run by role: the policy's starting weights, and the frozen reference it is held against."""

import contextlib
import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from rlpost import catalogue
from rlpost.errors import ConfigError, ModelError
from rlpost.likelihood.scoring import teach
from rlpost.models.encode import Bundle
from rlpost.models.trusted import imports_nothing, safe_adapter
from rlpost.nodes import build


def start_from(bundle: Bundle, folder: str | Path | None) -> Bundle:
    """The bundle with the weights saved in `folder` (a run's `model/`), full or as an adapter; None changes nothing.

    An adapter stands on the weights that its own run started from, which its run folder names.
    Raises ModelError where the folder holds no weights of this architecture.
    """
    if folder is None:
        return bundle
    place = Path(folder)
    if not place.is_dir():
        raise ModelError(f"init={place} is not a folder; give the model/ folder of a run")
    if (place / "adapter_config.json").is_file():
        recorded = place.parent / "config.yaml"
        below = catalogue.read_yaml(recorded).get("init") if recorded.is_file() else None
        bundle.model = _merged(start_from(bundle, below).model, place)
    else:
        bundle.model = _full(bundle, place)
    return bundle


def _merged(model: Any, place: Path) -> Any:
    from peft import PeftModel

    safe_adapter(place, "init")
    try:
        return PeftModel.from_pretrained(model, str(place)).merge_and_unload()
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelError(f"init={place} holds an adapter that does not fit {type(model).__name__}: {error}") from error


def _full(bundle: Bundle, place: Path) -> Any:
    old = bundle.model
    try:
        kind = PreTrainedConfig.get_config_dict(str(place))[0].get("model_type")
        if kind != old.config.model_type:
            raise ValueError(f"it is a {kind} model, not {old.config.model_type}")
        model, info = type(old).from_pretrained(
            str(place), dtype=old.dtype, output_loading_info=True, trust_remote_code=False, use_safetensors=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"init={place} holds no weights for {type(old).__name__}: {error}") from error
    # transformers only warns of these, and trains on from random weights.
    wrong = sorted(str(key) for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") for key in info[kind])
    if wrong:
        raise ModelError(
            f"init={place} does not hold exactly the weights of {type(old).__name__}: {', '.join(wrong[:3])}; pick the "
            "model option that it was trained from"
        )
    words, needed = model.get_input_embeddings().weight.shape[0], len(bundle.encoder.tokenizer)
    if words < needed:
        raise ModelError(f"init={place} knows {words} tokens, the tokenizer has {needed}; pick its own model option")
    model.generation_config = old.generation_config
    return model


def with_adapter(model: Any, peft: dict[str, Any] | None) -> Any:
    """The model with a new low-rank adapter where `peft` names one (a peft configuration), otherwise the model itself.

    Raises ModelError where the adapter fits no module, or would sit on the language-model head.
    """
    if not peft or "_target_" not in peft:
        return model
    import peft as library

    imports_nothing(peft, "peft")
    kind = getattr(library, str(peft["_target_"]).rpartition(".")[2], None)
    if not isinstance(kind, type) or not issubclass(kind, library.PeftConfig):
        raise ConfigError(f"peft._target_={peft['_target_']} is no configuration of an adapter of peft")
    try:
        wrapped = library.get_peft_model(model, kind(**{k: v for k, v in peft.items() if k != "_target_"}))
    except ValueError as error:
        raise ModelError(f"peft: {error}") from error
    base: Any = wrapped.get_base_model()
    head = base.get_output_embeddings()
    if head is not None and any("lora" in name for name, _ in head.named_parameters()):
        raise ModelError(
            "peft.target_modules covers the language-model head, whose weight is used directly; leave it out"
        )
    return wrapped


def reference(policy: Any, tree: Mapping[str, Any]) -> "Reference":
    """What a run holds its policy against: the model of `models.reference`, or the policy as it is now.

    Raises ModelError where that model reads other tokens.
    """
    node = (tree.get("models") or {}).get("reference")
    if not node:
        return Reference(policy)
    other = build(node)().model
    words, own = (model.get_input_embeddings().weight.shape[0] for model in (other, policy))
    if words != own:
        raise ModelError(f"models.reference knows {words} tokens and the policy {own}; name a model of the same family")
    return Reference(policy, other.to(policy.device))


class Reference:
    """The policy as it was at the start: with adapters the policy with them switched off, otherwise a frozen copy.

    `other` is another model in that place. A copy may follow the policy: `move` mixes the policy's weights into it.
    """

    def __init__(self, policy: Any, other: Any = None):
        self._policy = policy
        self._shared = other is None and hasattr(policy, "disable_adapter")
        self._frozen = policy if self._shared else _frozen_copy(policy) if other is None else _frozen(other)
        self._average: list[Tensor] = []  # of a copy that was moved, in float32 or better

    @contextlib.contextmanager
    def use(self) -> Iterator[Any]:
        """The model to score with; no gradient is recorded and dropout is off."""
        training = self._frozen.training
        self._frozen.eval()
        try:
            with torch.no_grad(), self._policy.disable_adapter() if self._shared else contextlib.nullcontext():
                yield self._frozen
        finally:
            self._frozen.train(training and self._shared)

    @property
    def movable(self) -> bool:
        """Whether it has weights of its own, and the policy the same ones."""
        return not self._shared and not hasattr(self._policy, "disable_adapter")

    @torch.no_grad()
    def move(self, share: float) -> None:
        """Keep `share` of the weights and take the rest from the policy as it is now. Raises ModelError with adapters.

        Small shares add up: the average is kept in float32 where the model is less exact.
        """
        if not self.movable:
            raise ModelError("the reference of a policy with an adapter is the policy without it and cannot follow it")
        own = list(self._frozen.parameters())
        if not self._average:
            self._average = _averages(own)
        for weights, average, new in zip(own, self._average, self._policy.parameters(), strict=True):
            average.lerp_(new.to(average), 1.0 - share)
            if average is not weights:
                weights.copy_(average)

    def state(self) -> list[Tensor]:
        """The weights of a reference that moved, for a checkpoint; empty while it is the start."""
        return [average.detach().cpu() for average in self._average]

    @torch.no_grad()
    def load_state(self, state: Sequence[Tensor]) -> None:
        """Continue where `state` was taken."""
        if not state:
            return
        own = list(self._frozen.parameters())
        self._average = _averages(own)
        for weights, average, saved in zip(own, self._average, state, strict=True):
            average.copy_(saved)
            weights.copy_(average)


def _averages(own: Sequence[Tensor]) -> list[Tensor]:
    """Where the average of each tensor is kept: in place, or beside it in float32."""
    return [weights if torch.finfo(weights.dtype).bits >= 32 else weights.float() for weights in own]


def _frozen_copy(policy: Any) -> Any:
    taught = policy.__dict__.pop("forward", None)
    policy.__dict__.pop("_rlpost_scores", None)
    frozen = copy.deepcopy(policy)
    if taught is not None:
        policy.forward, policy._rlpost_scores = taught, True
    return _frozen(frozen)


def _frozen(model: Any) -> Any:
    teach(model.requires_grad_(False))
    return model
