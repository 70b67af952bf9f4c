"""Datasets of the Hugging Face hub, in the formats that TRL documents."""

from collections.abc import Sequence
from typing import Any

from rlpost.dataset.files import numbered, tasks_of
from rlpost.dataset.shape import Columns
from rlpost.errors import DataError
from rlpost.types import Task


def hub(
    split: str,
    *,
    path: str,
    name: str | None = None,
    revision: str | None = None,
    train_split: str = "train",
    test_split: str = "test",
    validation_split: str = "validation",
    prompt: str | None = None,
    answer: str | None = None,
    messages: str | None = None,
    completion: str | None = None,
    text: str | None = None,
    chosen: str | None = None,
    rejected: str | None = None,
    label: str | None = None,
    id: str | None = None,
    system: str | None = None,
    tags: Sequence[str] = (),
    limit: int | None = None,
    max_bad: float = 0.01,
) -> Sequence[Task]:
    """A dataset by its name on the hub, or a folder of data files.

    The split knobs take the hub's slices: `train_split: train[:95%]`, `test_split: train[95%:]`.

    Edge cases: rows that cannot be used are treated as in `files`. Images and videos are not decoded here.
    """
    places = {"train": train_split, "test": test_split, "validation": validation_split}
    if split not in places:
        raise DataError(f"dataset=hub has the splits {', '.join(places)}, not {split!r}")
    loaded = _load(path, name, revision, places[split])
    rows = loaded if limit is None else loaded.select(range(min(limit, len(loaded))))
    return tasks_of(
        numbered(rows, f"{path}/{places[split]}"),
        Columns(prompt, answer, messages, completion, text, chosen, rejected, label, id),
        source=f"{path} ({places[split]})",
        split=split,
        system=system,
        tags=tags,
        base=None,
        max_bad=max_bad,
    )


def _load(path: str, name: str | None, revision: str | None, part: str) -> Any:
    """One split with media left undecoded; any failure of `datasets` as a sentence."""
    from datasets import Image, Video, load_dataset

    try:
        loaded = load_dataset(path, name, revision=revision, split=part)
        for column, feature in loaded.features.items():
            inner = getattr(feature, "feature", feature)
            if isinstance(inner, Image | Video):
                loaded = loaded.cast_column(column, _undecoded(feature, inner))
        return loaded
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"the dataset {path!r} ({part}) cannot be loaded ({reason}). Check dataset.path, dataset.name, the "
            "split, the network and your access; without a network use dataset=files with a local file"
        ) from error


def _undecoded(feature: Any, inner: Any) -> Any:
    from datasets import List

    plain = type(inner)(decode=False)
    return plain if feature is inner else List(plain)
