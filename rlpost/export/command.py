"""`rlpost export`: find what was trained, write it, prove it, and only then let the folder appear."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from rlpost.errors import ConfigError, SelfCheckError
from rlpost.export import card, push, source, verify, weights, words
from rlpost.export.source import Source
from rlpost.export.verify import Check, Sample
from rlpost.models.encode import Bundle
from rlpost.run import files
from rlpost.run.checkpoint import atomic_folder
from rlpost.run.tables import table

KINDS = ("hf", "merged")
TYPES = ("float32", "bfloat16", "float16")


def run(
    folder: Path,
    *,
    to: str = "hf",
    out: Path | None = None,
    checkpoint: str | None = None,
    dtype: str | None = None,
    repo: str | None = None,
    check: bool = False,
) -> Path:
    """Write the export, print what was checked, and push where `repo` names one; returns the folder.

    Raises SelfCheckError where a check fails; nothing is left behind then.
    """
    found = source.find(folder, checkpoint)
    place = out or folder / "-".join(filter(None, ["export", to, checkpoint]))
    _refuse(found, to, place, dtype, check)
    if repo:
        push.ready(repo)
    _quiet()
    print(f"exporting {found.label} of {folder}", flush=True)
    with atomic_folder(place) as partial:
        checks = write(found, partial, to=to, dtype=dtype or found.dtype, check=check)
        failed = [one for one in checks if not one.passed]
        if checks:
            _show(checks)
        if failed:
            raise SelfCheckError("; ".join(one.said for one in failed) + f". Nothing was written to {place}")
    if drew := card.sampled(found):  # a reward model draws nothing
        print(f"  sampling  the run drew {drew}; README.md beside the weights has the defaults")
    print(f"  folder    {place}", flush=True)
    if repo:
        print(f"  pushed    {push.push(place, repo, f'{found.label} of {folder.name}')}", flush=True)
    return place


def write(found: Source, folder: Path, *, to: str, dtype: str, check: bool) -> list[Check]:
    """Everything that belongs into the folder; with `check` what holds of it and what does not."""
    bundle = source.started(found)
    base = weights.adapter_base(found, bundle) if found.adapter and to == "hf" else bundle.source
    generation = weights.companions(found, bundle, folder)
    proof = Proof(found, bundle, dtype) if check else None
    merging = found.adapter and to == "merged"
    if merging or proof:
        bundle = source.trained(found, bundle)
    if proof:
        proof.before(bundle)
    if merging:
        whole = weights.merged(bundle.model, dtype)
        weights.save(whole, folder)
        bundle.model = whole
    else:
        weights.copied(found, folder)
        if found.adapter:
            weights.name_base(found, bundle, folder)
    checks = proof.after(bundle, folder, merging=merging) if proof else []
    kind = "merged" if merging else "adapter" if found.adapter else "full"
    text = card.text(found, bundle, kind=kind, base=base, dtype=dtype, generation=generation, checks=checks)
    files.write(folder / "README.md", text)
    return checks


class Proof:
    """Takes down what the base is while it is there, then what was trained, and holds the folder against both."""

    def __init__(self, found: Source, base: Bundle, dtype: str):
        self.source, self.dtype = found, dtype
        self.asked: list[Sample] = verify.samples(found, base)
        self.examples = words.endings(found, base)
        self.base = verify.digests(base.model, dtype)
        with verify.placed(base):
            self.stop_before = words.stop_probability(base.model, base, self.examples)

    def before(self, bundle: Bundle) -> None:
        """The trained model, before an adapter is merged."""
        with verify.placed(bundle):
            verify.observe(bundle.model, bundle, self.asked)
            self.stop_after = words.stop_probability(bundle.model, bundle, self.examples)

    def after(self, bundle: Bundle, folder: Path, *, merging: bool) -> list[Check]:
        """All checks of the written folder; `bundle` holds the model as it was written."""
        if merging:
            made = verify.digests(bundle.model, self.dtype)
            bundle.model = bundle.model.float()  # the weights as they are stored, computed with in float32
            with verify.placed(bundle):
                verify.rewrite(bundle.model, bundle, self.asked)
        elif not self.source.adapter:
            made = verify.digests(bundle.model, self.dtype)
        else:
            made = None
        if made is None:
            differs = verify.adapter_works(self.asked)
        else:
            differs = verify.weights_differ(self.base, made, self.source, self.dtype)
        found = verify.fresh(folder, bundle, self.asked)
        return [
            differs,
            verify.agrees(self.asked, found.logits, self.dtype if merging else "float32"),
            verify.same_text(self.asked, found.answers, bundle),
            words.round_trip(self.asked, found.answers, bundle),
            words.think_tags(self.source, bundle, self.asked),
            self._stop(words.ends(self.source, bundle)),
        ]

    def _stop(self, check: Check) -> Check:
        if self.stop_before is None or self.stop_after is None:
            return check
        said = f"{check.said}; its probability there is {self.stop_after:.3g}, in the base {self.stop_before:.3g}"
        return check._replace(said=said)


def _refuse(found: Source, to: str, place: Path, dtype: str | None, check: bool) -> None:
    faults = []
    if to not in KINDS:
        faults.append(f"--to {to} is no format; there are {', '.join(KINDS)}")
    if dtype is not None and dtype not in TYPES:
        faults.append(f"--dtype {dtype} is no type of weights; there are {', '.join(TYPES)}")
    if dtype is not None and not (found.adapter and to == "merged"):
        faults.append("--dtype is for --to merged of an adapter: other weights are copied as they were saved")
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        faults.append(f"{place} is there already, and an export overwrites nothing: choose another --out, or remove it")
    if found.verb == "reward" and check:
        faults.append("--verify asks a language model for text; a reward model has none: export it without --verify")
    if found.verb == "reward" and found.adapter and to == "merged":
        faults.append("a reward model is merged when its run ends; its checkpoints hold adapters only: use --to hf")
    if faults:
        raise ConfigError(faults)


def _quiet() -> None:
    """transformers' bars for reading and writing weights, and a warning of a name that it changes, are noise here."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*", category=FutureWarning)


def _show(checks: Sequence[Check]) -> None:
    rows: list[list[Any]] = [["ok" if check.passed else "FAILED", check.name, check.said] for check in checks]
    Console().print(table("Verified", ["", "check", "found"], rows))
