"""The loader says what Hydra's own says: the same configuration, and the same sentences."""

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rlpost.config import _Loader as Loader

MAIN = "defaults:\n  - a: one\n  - b: ${a}\n  - _self_\nnumber: 1e-3\nday: 2026-01-02\nnone:\n"
FILES = {
    "main.yaml": MAIN,
    "a/one.yaml": "# @package deep.er\nx: 1\n",
    "a/two.yaml": "x: 2\n",
    "b/one.yaml": "y: .5\n",
    "b/two.yaml": "y: 1_000\nz: [on, 'on', 0o17, 017, ~]\n",
    "a/twice.yaml": "x: 1\nx: 2\n",
    "a/broken.yaml": "x: [1\n",
    "a/word.yaml": "only a word\n",
    "a/empty.yaml": "",
}


@pytest.fixture
def folder(tmp_path):
    for name, text in FILES.items():
        place = tmp_path / "recipes" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    (tmp_path / "mine" / "a").mkdir(parents=True)
    (tmp_path / "mine" / "a" / "own.yaml").write_text("x: 3\n")
    return tmp_path


def said(kind: type[ConfigLoaderImpl], folder, *overrides):
    with initialize_config_dir(config_dir=str(folder / "recipes"), version_base="1.3"):
        loader = kind(GlobalHydra.instance().config_loader().get_search_path())
        try:
            return loader.load_configuration("main", list(overrides), RunMode.RUN, from_shell=False)
        except (HydraException, OmegaConfBaseException, OSError, ValueError) as error:
            return f"{type(error).__name__}: {error}"
        except Exception as error:
            return type(error).__name__, getattr(error, "problem_mark", None) and error.problem_mark.name


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["a=two"],
        ["a=two", "number=2"],
        ["a=three"],
        ["a=twice"],
        ["a=broken"],
        ["a=word"],
        ["a=empty"],
        ["a=own", "hydra.searchpath=[file://MINE]"],
    ],
)
def test_every_configuration_and_every_error_is_hydras(overrides, folder):
    given = [text.replace("MINE", str(folder / "mine")) for text in overrides]
    ours, theirs = (said(kind, folder, *given) for kind in (Loader, ConfigLoaderImpl))
    assert type(ours) is type(theirs)
    if OmegaConf.is_config(ours):
        assert OmegaConf.to_yaml(ours) == OmegaConf.to_yaml(theirs)
    else:
        assert ours == theirs


def test_a_file_that_changed_is_read_again(folder):
    before = said(Loader, folder)
    (folder / "recipes" / "a" / "one.yaml").write_text("x: 9\n")
    assert (before.deep.er.x, said(Loader, folder).a.x) == (1, 9)


def test_it_leaves_hydra_as_it_was(folder):
    with initialize_config_dir(config_dir=str(folder / "recipes"), version_base="1.3"):
        plain = compose("main")
    said(Loader, folder, "a=three")
    with initialize_config_dir(config_dir=str(folder / "recipes"), version_base="1.3"):
        assert compose("main", ["a=two"]).b.y == 1000 and compose("main") == plain
