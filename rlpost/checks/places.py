"""Files and folders that a run reads and that are not there: told before torch is imported."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlpost.errors import DataError, ModelError
from rlpost.models.located import located

DATA = {"rlpost.dataset.files.files": ("path", "test_path")}
MODELS = ("rlpost.models.load.hub", "rlpost.models.scorer.heads.RewardHead", "rlpost.models.scorer.heads.Embedder")


def require(tree: Mapping[str, Any]) -> None:
    """Raises DataError or ModelError for the first file or folder of a checked configuration that is missing."""
    data_and_model(tree)
    for node in (tree.get("models") or {}).values():
        _model(node)
    place = (tree.get("run") or {}).get("dir")
    if place:
        Path(place).exists()  # raises OSError where it is too long for a name
    init = tree.get("init")
    if init is not None and not Path(init).is_dir():
        raise ModelError(f"init={init} is not a folder; give the model/ folder of a run")
    if init is not None and not any((Path(init) / name).is_file() for name in ("config.json", "adapter_config.json")):
        raise ModelError(f"init={init} holds no weights: it has no config.json; give the model/ folder of a run")


def data_and_model(tree: Mapping[str, Any]) -> None:
    """The same of the dataset and the policy's model, which no earlier stage of a pipeline makes."""
    dataset = tree.get("dataset") or {}
    for knob in DATA.get(str(dataset.get("_target_")), ()):
        path = dataset.get(knob)
        if path is not None and not Path(path).expanduser().exists():
            raise DataError(f"the dataset file {path!r} does not exist (dataset.{knob})")
    _model(tree.get("model"))


def _model(node: Any) -> None:
    if isinstance(node, Mapping) and node.get("_target_") in MODELS and node.get("path") is not None:
        located(str(node["path"]))
