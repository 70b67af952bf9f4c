"""What every aggregate and token weight on disk must satisfy: a row's weights do not depend on other groups' rows.

The step relies on it when it leaves groups without signal out. A plug-in that looks across groups declares it.
"""

import dataclasses

import pytest
import torch

from rlpost import catalogue
from rlpost.config import build
from rlpost.fields import call, reads
from rlpost.types import Counts
from tests.strategies import field


def built(path):
    """The plug-in with a number for every knob that follows from another one in a whole configuration."""
    node = catalogue.read_yaml(path)
    return build({k: 7 if str(v).startswith("${") else v for k, v in node.items()})


FOUND = {
    f"{axis}/{path.stem}": built(path)
    for axis in ("aggregate", "token_weight")
    for path in sorted((catalogue.recipes_dir() / axis).glob("*.yaml"))
}
COUNTS = Counts(rows=6, tokens=23, groups=3, micro_batches=2)


@dataclasses.dataclass
class Record:
    """The fields that a plug-in names."""

    values: dict

    def __getattr__(self, name):
        return self.values[name]


def declared(plugin) -> bool:
    return getattr(getattr(plugin, "func", plugin), "couples_rows", False)


def test_the_weights_are_found():
    assert len(FOUND) >= 4, sorted(FOUND)
    assert [name for name, plugin in FOUND.items() if declared(plugin)] == ["aggregate/local_token_mean"]


@pytest.mark.parametrize("name", FOUND)
def test_weights_of_a_group_do_not_depend_on_other_groups(name):
    plugin = FOUND[name]
    made = {n: COUNTS if n == "counts" else field(n, 6, 5, 4) for n in reads(plugin)}
    group = torch.tensor([0, 0, 1, 1, 2, 2])
    if "group" in made:
        made["group"] = group
    kept = [2, 3]
    part = {n: _rows(v, kept) for n, v in made.items()}
    whole, some = call(plugin, Record(made), {})[kept], call(plugin, Record(part), {})
    same = torch.allclose(whole, some, rtol=0, atol=1e-7)
    assert same != declared(plugin), "declare couples_rows = True on a function that looks across groups"


def _rows(value, rows):
    if isinstance(value, torch.Tensor):
        return value[rows]
    return tuple(value[i] for i in rows) if isinstance(value, tuple) else value
