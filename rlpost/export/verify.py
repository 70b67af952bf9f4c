"""Proof that an exported folder is the model that was trained: what it differs from, and what it agrees with."""

import contextlib
import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from rlpost.config import build
from rlpost.errors import DataError, ModelError
from rlpost.export.source import Source
from rlpost.models.encode import Bundle
from rlpost.run import files
from rlpost.types import Prompt, Task

PROMPTS, TOKENS = 4, 24  # how many real prompts are asked, and how many tokens each is answered with
TOLERANCE = 1e-3  # of a logit in float32: two ways of adding the same numbers up differ by less
KEPT = 0.5  # share of what training changed in the logits that 16-bit weights must keep


class Check(NamedTuple):
    """One thing that was checked, whether it holds, and a sentence with the numbers."""

    name: str
    passed: bool
    said: str


@dataclass
class Sample:
    """A real prompt, what the trained model answers greedily, and its logits (T,V) in float32 on that answer."""

    task: Task
    prompt: Prompt
    answer: list[int] = field(default_factory=list)
    logits: Tensor = field(default_factory=lambda: torch.empty(0))
    base_logits: Tensor | None = None
    written: list[int] = field(default_factory=list)


def samples(source: Source, bundle: Bundle) -> list[Sample]:
    """Prompts of the run's own data, held out where there is a split for that."""
    node = source.tree.get("evaluation") or {}
    load = build(source.tree["dataset"])
    try:
        tasks = list(load(node.get("split", "test")))[:PROMPTS]
    except DataError:
        tasks = []
    tasks = tasks or list(load("train"))[:PROMPTS]
    return [Sample(task, bundle.encoder.prompt(task)) for task in tasks]


def observe(model: Any, bundle: Bundle, asked: Sequence[Sample]) -> None:
    """Note the trained model's greedy answers and logits; with an adapter, also what the base says of the answers."""
    for sample in asked:
        sample.answer = sample.written = greedy(model, bundle, sample.prompt)
        sample.logits = logits(model, bundle, sample)
        if hasattr(model, "disable_adapter"):
            with model.disable_adapter():
                sample.base_logits = logits(model, bundle, sample)


def rewrite(model: Any, bundle: Bundle, asked: Sequence[Sample]) -> None:
    """Note what the weights answer as they are written: merging and rounding may change a token."""
    for sample in asked:
        sample.written = greedy(model, bundle, sample.prompt)


@torch.no_grad()
def greedy(model: Any, bundle: Bundle, prompt: Prompt) -> list[int]:
    """At most TOKENS tokens by transformers' own `generate`."""
    from transformers import GenerationConfig

    inputs = _on(model, bundle.encoder.collate([prompt]))
    found = model.generate(**inputs, generation_config=GenerationConfig(**_generation(bundle)))
    return found[0, inputs["input_ids"].shape[1] :].tolist()


@torch.no_grad()
def logits(model: Any, bundle: Bundle, sample: Sample) -> Tensor:
    """(T,V) f32 on the CPU: what predicts each token of the sample's answer."""
    inputs = _on(model, bundle.encoder.collate([sample.prompt], [sample.answer]))
    return model(**inputs, use_cache=False).logits[0, -len(sample.answer) - 1 : -1].float().cpu()


def digests(model: Any, dtype: str) -> dict[str, str]:
    """A digest of the bytes of each tensor of the model, as it is stored in `dtype`."""
    kind = getattr(torch, dtype)
    found = {}
    for name, tensor in model.state_dict().items():
        stored = tensor.to(kind) if tensor.is_floating_point() else tensor
        flat = stored.detach().cpu().contiguous().view(torch.uint8).numpy()
        found[name] = hashlib.blake2b(flat.tobytes(), digest_size=16).hexdigest()
    return found


def weights_differ(base: dict[str, str], made: dict[str, str], source: Source, dtype: str) -> Check:
    """Fails where every tensor is byte-identical with the base's."""
    same = [name for name, digest in made.items() if base.get(name) == digest]
    changed = len(made) - len(same)
    if changed:
        return Check("differs from the base", True, f"{changed} of {len(made)} tensors differ")
    lost = "" if dtype == "float32" else f" that {dtype} can hold"
    why = f"its adapter changes nothing{lost}" if source.adapter else "training changed nothing"
    name = "merged equals base" if source.adapter else "the weights equal the base's"
    return Check(
        "differs from the base",
        False,
        f"{name}: all {len(made)} tensors are byte-identical, so that {why}; look at the gradient norm and the "
        "learning rate of the run" + (", or export with --dtype float32" if dtype != "float32" else ""),
    )


def adapter_works(asked: Sequence[Sample]) -> Check:
    """Fails where an adapter's logits are the base's."""
    most = max(_furthest(s.logits, s.base_logits) for s in asked if s.base_logits is not None)
    said = f"it moves logits by up to {most:.3g}"
    if most == 0.0:
        said = "the adapter equals its base: it changes no logit, so that training has changed nothing"
    return Check("the adapter does something", most > 0.0, said)


def agrees(asked: Sequence[Sample], found: Sequence[Tensor], dtype: str) -> Check:
    """Logits of the exported folder against the trained model's: within TOLERANCE, or in 16 bits mostly kept.

    Rounding to 16 bits moves logits by more than any tolerance that could tell a lost adapter: there the error must be
    smaller than the share 1 - KEPT of what training changed.
    """
    furthest = max(_furthest(s.logits, logits) for s, logits in zip(asked, found, strict=True))
    pairs = [(s, s.base_logits, x) for s, x in zip(asked, found, strict=True) if s.base_logits is not None]
    if dtype == "float32" or not pairs:
        passed, said = furthest <= TOLERANCE, f"logits differ by at most {furthest:.2g} (limit {TOLERANCE:g}, float32)"
    else:
        error = sum(float((s.logits - x).square().sum()) for s, _, x in pairs) ** 0.5
        effect = sum(float((s.logits - base).square().sum()) for s, base, _ in pairs) ** 0.5
        kept = 1 - error / effect if effect else 0.0
        passed = kept >= KEPT
        said = f"{dtype} keeps {kept:.0%} of what training changed in the logits (at least {KEPT:.0%})"
        said += "" if passed else "; export with --dtype float32"
    return Check("logits agree with the trained model", passed, said)


def same_text(asked: Sequence[Sample], found: Sequence[dict[str, Any]], bundle: Bundle) -> Check:
    """Greedy tokens and text of the fresh process are those of the weights as they were written."""
    name = "a fresh process answers the same"
    for sample, answer in zip(asked, found, strict=True):
        ours = bundle.encoder.tokenizer.decode(sample.written, skip_special_tokens=False)
        if answer["tokens"] != sample.written or answer["text"] != ours:
            return Check(name, False, f"to task {sample.task.id} it answers {answer['text']!r}, not {ours!r}")
    count = sum(len(s.written) for s in asked)
    return Check(name, True, f"{count} greedy tokens on {len(asked)} prompts, by plain transformers")


class Fresh(NamedTuple):
    """What a fresh process says: per prompt a mapping (see fresh.py), and logits (T,V)."""

    answers: list[dict[str, Any]]
    logits: list[Tensor]


def fresh(folder: Path, bundle: Bundle, asked: Sequence[Sample]) -> Fresh:
    """Ask a new Python process without rlpost. Raises ModelError with its last line where it cannot load the folder."""
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        _pose(home, bundle, asked)
        line = [sys.executable, "-I", str(Path(__file__).with_name("fresh.py")), str(folder.resolve()), place]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise ModelError(f"plain transformers cannot use the exported folder: {last}")
        tensors = load_file(home / "found.safetensors")
        answers = json.loads((home / "found.json").read_text(encoding="utf-8"))
    return Fresh(answers, [tensors[str(i)] for i in range(len(asked))])


def _pose(home: Path, bundle: Bundle, asked: Sequence[Sample]) -> None:
    tensors: dict[str, Tensor] = {}
    for i, sample in enumerate(asked):
        for part, answers in (("prompt", None), ("whole", [sample.answer])):
            inputs = bundle.encoder.collate([sample.prompt], answers)
            # Two names for one tensor are refused by safetensors, and prompts share the tensors of their media.
            tensors |= {f"{i}.{part}.{name}": value.clone().contiguous() for name, value in inputs.items()}
    save_file(tensors, home / "asked.safetensors")
    posed = {
        "vision": bundle.encoder.media is not None,
        "device": _device(),
        "generation": _generation(bundle),
        "samples": [{"messages": list(s.task.prompt), "answer": len(s.answer)} for s in asked],
    }
    (home / "asked.json").write_text(json.dumps(files.plain(posed)), encoding="utf-8")


@contextlib.contextmanager
def placed(bundle: Bundle) -> Iterator[None]:
    """The model on the accelerator where there is one, and back again."""
    bundle.model.to(_device())
    yield
    bundle.model.to("cpu")


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _generation(bundle: Bundle) -> dict[str, Any]:
    stops = list(bundle.encoder.stop_ids)
    return {"do_sample": False, "max_new_tokens": TOKENS, "eos_token_id": stops, "pad_token_id": bundle.encoder.pad_id}


def _on(model: Any, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    device = next(model.parameters()).device
    return {name: value.to(device) for name, value in inputs.items()}


def _furthest(one: Tensor, other: Tensor | None) -> float:
    return float("inf") if other is None or one.shape != other.shape else float((one - other).abs().max())
