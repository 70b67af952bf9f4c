"""A model that a run of rlpost trained, by its run folder."""

from pathlib import Path

from rlpost import catalogue
from rlpost.errors import ModelError
from rlpost.models.encode import Bundle
from rlpost.models.roles import start_from
from rlpost.nodes import build


def trained(*, run: str) -> Bundle:
    """The model option of a run with the weights that it saved: for second models and references.

    Edge cases: an adapter comes merged into what it was trained on. Raises ModelError where `run` is no run folder.
    """
    place = Path(run)
    if not (place / "config.yaml").is_file():
        raise ModelError(f"{run} is no run folder: it has no config.yaml; give the folder that holds model/")
    bundle = start_from(build(catalogue.read_yaml(place / "config.yaml")["model"])(), place / "model")
    return Bundle(bundle.model.eval(), bundle.encoder, bundle.name, str(place))
