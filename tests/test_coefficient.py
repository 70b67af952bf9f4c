"""Coefficients that read the mean of their term; the two phases of the step are tested in test_step.py."""

import pytest

from rlpost.assemble import term
from rlpost.catalogue import read_yaml, recipes_dir
from rlpost.coefficient import hinge
from rlpost.fields import reads


def test_hinge():
    assert hinge(0.3, scale=10.0, threshold=0.1) == pytest.approx(2.0)
    assert hinge(0.1, scale=10.0, threshold=0.1) == hinge(-5.0, scale=10.0, threshold=0.1) == 0.0


@pytest.mark.parametrize("name", ["kl_old_hinge", "kl_old_hinge_k3"])
def test_an_option_names_it_under_coef(name):
    built = term(name, read_yaml(recipes_dir() / "regularizer" / f"{name}.yaml"))
    assert callable(built.coef) and reads(built.coef) == ("mean",)
    assert built.coef(3e-4) == pytest.approx(1000 * 2e-4)
