import json
import textwrap

import pytest

from rlpost import catalogue, explain
from rlpost.errors import ConfigError
from rlpost.source import parse_doc, signature

ROOTS = [catalogue.recipes_dir()]


def test_read_yaml_reads_numbers_as_hydra_does(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("a: 1e-5\nb: 1.0e-05\nc: 3\nd: 1e3\ne: e3\nf: .5\n", encoding="utf-8")
    assert catalogue.read_yaml(path) == {"a": 1e-5, "b": 1e-5, "c": 3, "d": 1000.0, "e": "e3", "f": 0.5}


def test_read_yaml_says_where_it_is_broken(tmp_path):
    (tmp_path / "x.yaml").write_text("a: [1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"x\.yaml is not valid YAML"):
        catalogue.read_yaml(tmp_path / "x.yaml")
    (tmp_path / "y.yaml").write_text("- 1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="holds a list"):
        catalogue.read_yaml(tmp_path / "y.yaml")


def test_signature_of_a_function():
    sig = signature("rlpost.objective.clipped.gspo")
    assert sig.reads == ("logp", "old_logp", "advantage", "mask")
    assert {name: (knob.annotation, knob.default) for name, knob in sig.knobs.items()} == {
        "clip_low": ("float", 3e-4),
        "clip_high": ("float", 4e-4),
    }
    assert list(sig.doc.sections) == ["Equation", "Reduces to", "Edge cases", "Paper"]


def test_signature_of_a_class():
    target = catalogue.read_yaml(catalogue.options("curriculum", ROOTS)["dump"])["_target_"]
    assert signature(target).kind == "class"
    assert signature(target).knobs


def test_docstring_sections_and_assumptions():
    doc = parse_doc(
        textwrap.dedent(
            """\
            One line.

            Equation:
                a = b
                  + c
            Edge cases: none.
            Paper:
                T, arXiv 1.
                Assumed: the mean, and
                not the sum.
            """
        )
    )
    assert doc.line == "One line."
    assert doc.sections == {"Equation": "a = b\n+ c", "Edge cases": "none.", "Paper": doc.sections["Paper"]}
    assert doc.assumed == ("the mean, and not the sum.",)


def test_commands_of_a_recipe():
    recipes = catalogue.options("recipe", ROOTS)
    assert catalogue.commands_of(recipes["gspo"]) == ["grpo"]
    assert catalogue.commands_of(recipes["dpo"]) == ["dpo"]
    assert catalogue.commands_of(recipes["asft"]) == ["sft"]


def test_listing_of_recipes_and_axes():
    rows = json.loads(explain.listing(None, None, True, None))
    methods = {n for n, path in catalogue.options("pipeline", ROOTS).items() if "about" in catalogue.read_yaml(path)}
    assert {row["name"] for row in rows} == set(catalogue.options("recipe", ROOTS)) | methods and len(methods) >= 6
    assert [row["name"] for row in json.loads(explain.listing(None, "Group Sequence", True, None))] == ["gspo"]
    axis = json.loads(explain.listing("objective", None, True, None))
    assert {row["name"] for row in axis} == set(catalogue.options("objective", ROOTS))
    assert "gspo" in explain.listing(None, None, False, None)
    assert "nothing contains 'zzz'" in explain.listing(None, "zzz", False, None)
    with pytest.raises(ConfigError, match="did you mean 'objective'"):
        explain.listing("objektive", None, False, None)


def test_every_axis_lists():
    for axis in catalogue.axes(ROOTS):
        if axis != "recipe":
            assert len(json.loads(explain.listing(axis, None, True, None))) == len(catalogue.options(axis, ROOTS))


def test_explain_a_recipe():
    text = explain.explain("dapo", False, None)
    assert "rlpost grpo recipe=dapo" in text
    assert "objective=ppo_clip_higher, not ppo_clip" in text
    assert "knob      clip_high: float = 0.28 (signature: 0.2)" in text
    facts = json.loads(explain.explain("dapo", True, None))
    assert facts["picks"]["aggregate"] == {"pick": "token_mean", "default": "row_mean"}
    assert {"title", "paper", "claim", "assumed"} <= set(facts)


def test_explain_prefers_the_recipe_and_finds_the_option():
    assert json.loads(explain.explain("gspo", True, None))["commands"] == ["grpo"]
    assert json.loads(explain.explain("objective=gspo", True, None))["axis"] == "objective"
    assert json.loads(explain.explain("token_mean", True, None))["reads"] == "mask, counts"


@pytest.mark.parametrize(("name", "hint"), [("gspoo", "'gspo'"), ("objektive=gspo", "'objective'")])
def test_explain_unknown(name, hint):
    with pytest.raises(ConfigError, match=f"did you mean {hint}"):
        explain.explain(name, False, None)


def test_every_recipe_and_option_can_be_explained():
    count = 0
    for axis in catalogue.axes(ROOTS):
        for name in catalogue.options(axis, ROOTS):
            assert explain.explain(f"{axis}={name}", False, None).strip()
            count += 1
    assert count > 60
