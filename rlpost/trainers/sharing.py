"""How rows are laid out for the model: prompts shared where it can and it pays, proved once on the run's own rows."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from accelerate import DistributedType
from torch import Tensor

from rlpost.errors import ModelError, SelfCheckError
from rlpost.kernels import parity, prefix
from rlpost.likelihood.scoring import Ask, Rows
from rlpost.models.encode import Encoder
from rlpost.models.positions import position_ids
from rlpost.types import Prompt

log = logging.getLogger("rlpost")


class Sharing:
    """Builds the inputs of the likelihood. `tell` is given one sentence when prompts are not shared.

    `settings` is the configuration's `kernels`: `prefix` (auto, on, off) and `completions_at_once` (None for all).
    Raises ModelError where `prefix=on` and the model cannot, SelfCheckError (from `rows`) where the layouts disagree.
    """

    def __init__(
        self,
        model: Any,
        encoder: Encoder,
        settings: Mapping[str, Any] | None,
        likelihood: Callable[..., Any],
        *,
        temperature: float = 1.0,
        banned: Sequence[int] = (),
        accelerator: Any = None,
    ):
        settings = settings or {}
        self.model, self.encoder, self.likelihood = model, encoder, likelihood
        wanted = settings.get("prefix", "auto")
        self.wanted = {True: "on", False: "off", None: "auto"}.get(wanted, wanted)
        self.at_once: int | None = settings.get("completions_at_once")
        self.temperature, self.banned = temperature, tuple(banned)
        self.tell: Callable[[str], Any] = log.info
        self.reason = self._refusal() if self.wanted != "off" else "kernels.prefix=off"
        if self.reason and self.wanted == "on":
            raise ModelError(f"kernels.prefix=on: {self.reason}; or set kernels.prefix=auto")
        # Parameters that are spread over devices cannot be gone through by one rank alone.
        self._proved = accelerator is not None and is_sharded(accelerator)
        self._unproved = (
            "prompts are shared, which could not be checked for this model because its parameters are spread over "
            "devices; kernels.prefix=off scores one row per completion"
            if self._proved
            else ""
        )
        self._told = self.wanted == "off"
        # Under autocast the parameters' own dtype says nothing about rounding.
        mixed = {"bf16": torch.bfloat16, "fp16": torch.float16}
        self._precision: torch.dtype = mixed.get(getattr(accelerator, "mixed_precision", "")) or model.dtype
        self.tokens = {"given": 0, "computed": 0}

    def rows(
        self,
        prompts: Sequence[Prompt],
        completions: Sequence[Sequence[int]],
        mask: Tensor,
        device: torch.device,
        seeds: Sequence[str] = (),
    ) -> Rows:
        """One packed row where it pays, otherwise one padded row per completion.

        `seeds`: one per row, for a likelihood that draws.
        """
        if self.reason and not self._told:
            self._told = True
            self.tell(f"every completion encodes its prompt again: {self.reason}")
        ratio = prefix.ratio(prompts, completions)
        pays = not self.reason and (self.wanted == "on" or ratio > prefix.WORTH)
        if pays and not self._proved:
            self._prove(prompts, completions, mask, device)
            pays = not self.reason
        given = sum(len(p.ids) + len(c) for p, c in zip(prompts, completions, strict=True))
        self.tokens["given"] += given
        self.tokens["computed"] += round(given / ratio) if pays else given
        if pays and self._unproved:
            self.tell(self._unproved)
            self._unproved = ""
        layout = self._packed if pays else self._padded
        found = layout(prompts, completions, mask, device)
        return replace(found, ask=replace(found.ask, seeds=tuple(seeds))) if seeds else found

    def saved(self) -> float:
        """Share of the tokens of one row per completion that sharing spared since the last call."""
        given, computed = self.tokens["given"], self.tokens["computed"]
        self.tokens = {"given": 0, "computed": 0}
        return 1 - computed / given if given else 0.0

    def _refusal(self) -> str | None:
        function = getattr(self.likelihood, "func", self.likelihood)
        if not getattr(function, "shares_prompts", False):
            return f"likelihood={getattr(function, '__name__', function)} is not left to right"
        return prefix.refusal(self.model)

    def _packed(
        self, prompts: Any, completions: Any, mask: Tensor, device: torch.device, *, parts: bool = False
    ) -> Rows:
        """`parts`: as if there were more completions than go at once, where there is such a limit."""
        at_once = 1 if parts and self.at_once is not None else self.at_once
        return prefix.pack(
            self.model, self.encoder, prompts, completions, mask, device,
            temperature=self.temperature, banned=self.banned, at_once=at_once,
        )  # fmt: skip

    def _padded(self, prompts: Any, completions: Any, mask: Tensor, device: torch.device) -> Rows:
        inputs = {name: value.to(device) for name, value in self.encoder.collate(prompts, completions).items()}
        inputs["position_ids"] = position_ids(self.model, inputs)
        return Rows(inputs, Ask(mask.to(device), self.temperature, self.banned))

    def _prove(self, prompts: Any, completions: Any, mask: Tensor, device: torch.device) -> None:
        """Both layouts of two rows of one group, cut short: log-probabilities and gradients must agree."""
        chosen = parity.pair(prompts, completions, mask)
        if chosen is None:  # nothing to see yet: no two rows of a group that train beyond their first token
            return
        rows = [i for i, _ in chosen]
        some, cut = [prompts[i] for i in rows], [list(c) for _, c in chosen]
        part = mask[rows, : max(map(len, cut))].clone()
        for i, completion in enumerate(cut):
            part[i, len(completion) :] = False
        try:
            packed = self._packed(some, cut, part, device, parts=True)
            gap = parity.gap(self.model, self.likelihood, packed, self._padded(some, cut, part, device))
            problem = gap.problem(self._precision)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # a model that nobody tried: whatever it raises, rows alone still work
            problem = f"{type(self.model).__name__} cannot share prompts ({type(error).__name__}: {error})"
        self._proved = True
        if problem and self.wanted == "on":
            raise SelfCheckError(f"kernels.prefix=on: {problem}; set kernels.prefix=off")
        self.reason = problem


def is_sharded(accelerator: Any) -> bool:
    """Whether parameters are spread over devices (FSDP, DeepSpeed)."""
    return accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED)
