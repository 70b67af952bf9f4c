"""Every recipe and every option on disk: composes, passes the check, and says what it is."""

import re
from pathlib import Path

import pytest

from rlpost import catalogue
from rlpost.checks.node import Place, field_faults
from rlpost.config import check, compose
from rlpost.errors import ConfigError
from rlpost.nodes import RESERVED, ROLLOUT_RESERVED
from rlpost.source import SECTIONS, signature

ROOT = catalogue.recipes_dir()
ROOTS = [ROOT]
# Losses and estimators state mathematics; the other axes move data and need no equation.
MATHEMATICS = (
    "shaping", "keep", "advantage", "aggregate", "token_weight", "objective", "regularizer", "divergence", "sft_loss",
    "preference", "reward_model",
)  # fmt: skip
AXES = [axis for axis in catalogue.axes(ROOTS) if axis not in ("recipe", "debug")]
OPTIONS = [(axis, name) for axis in AXES for name in catalogue.options(axis, ROOTS)]
FUNCTIONS = [
    (axis, name) for axis, name in OPTIONS if "_target_" in catalogue.read_yaml(catalogue.options(axis, ROOTS)[name])
]
RECIPES = [
    (name, command)
    for name, path in catalogue.options("recipe", ROOTS).items()
    for command in catalogue.commands_of(path) or ["none"]
]


def node_of(axis: str, name: str) -> dict:
    return catalogue.read_yaml(catalogue.options(axis, ROOTS)[name])


def commands_with(axis: str) -> list[str]:
    return [command for command in catalogue.COMMANDS if axis in catalogue.command_axes(command)]


def test_every_file_on_disk_is_visited():
    seen = {ROOT / axis / f"{name}.yaml" for axis, name in OPTIONS}
    seen |= {ROOT / "recipe" / f"{name}.yaml" for name, _ in RECIPES}
    seen |= {ROOT / "debug" / f"{name}.yaml" for name in catalogue.options("debug", ROOTS)}
    seen |= {ROOT / f"{command}.yaml" for command in catalogue.COMMANDS}
    seen |= set((ROOT / "launch" / "accelerate").glob("*.yaml"))  # accelerate's own files, named by launch options
    assert seen == set(ROOT.rglob("*.yaml"))
    assert len(RECIPES) >= 16
    assert len(FUNCTIONS) >= 40


@pytest.mark.parametrize(("axis", "name"), OPTIONS)
def test_option_composes_and_passes(axis, name):
    """A pick alone passes, but for values that only the user can give and for what a function says that it needs."""
    if axis == catalogue.ROLES:
        check_pick("grpo", [f"scorer@models.judge={name}"])
        return
    pick = f"{axis}=[{name}]" if axis in catalogue.MANY else f"{axis}={name}"
    where = commands_with(axis)
    assert where, f"no command has the axis {axis}"
    command = name if axis == "trainer" and name in where else "grpo" if "grpo" in where else where[0]
    distributions = {"ref_divergence", "teacher_divergence"} & set(_reads(axis, name))
    divergence = ["divergence=forward_kl"] if distributions else []
    node = node_of(axis, name) if axis == "rollout" or "models" in _reads(axis, name) else {}
    roles = [role for key, role in node.items() if (key in ("role", "judge") or key.endswith("_role")) and role]
    judge = [f"scorer@models.{role}=stand_in" for role in roles]
    source = ["built_from=[a]"] if axis == "build" else []
    steps = ["reward=[step_scores]", f"{catalogue.ROLES}@models.process=stand_in"]
    scored = steps if "span_rewards" in _reads(axis, name) else []
    pairs = ["reward=[pair_judge]", "scorer@models.judge=stand_in"] if "pair_rewards" in _reads(axis, name) else []
    teacher = (
        ["scorer@models.teacher=own"]
        if "teacher_logp" in _reads(axis, name) or "teacher_divergence" in distributions
        else []
    )
    critic = ["critic=separate"] if {"value", "returns"} & set(_reads(axis, name)) else []
    critic += ["advantage=gae"] if axis == "critic" else []
    shared = re.findall(r"\$\{schedules\.(\w+)\}", catalogue.options(axis, ROOTS)[name].read_text())
    schedules = [f"schedules.{one}={{_target_: rlpost.schedule.constant, value: 0.5}}" for one in shared]
    check_pick(command, [pick, *divergence, *judge, *source, *scored, *pairs, *teacher, *critic, *schedules])


def check_pick(command, overrides):
    try:
        check(compose(command, overrides))
    except ConfigError as error:
        left = [fault for fault in error.faults if "has no default: set " not in fault]
        assert not left, left


def _reads(axis: str, name: str) -> tuple[str, ...]:
    return signature(node_of(axis, name)["_target_"]).reads if (axis, name) in FUNCTIONS else ()


@pytest.mark.parametrize(("axis", "name"), FUNCTIONS)
def test_option_holds_every_knob(axis, name):
    node = node_of(axis, name)
    sig = signature(node["_target_"])
    if sig.open:
        pytest.skip("the signature is that of another library and open")
    reserved = RESERVED | (ROLLOUT_RESERVED if axis == "rollout" else frozenset())
    assert set(node) - reserved - {"defaults"} == set(sig.knobs) - reserved
    assert all(knob.annotation for knob in sig.knobs.values()), "a knob has no type"


@pytest.mark.parametrize(("axis", "name"), FUNCTIONS)
def test_function_is_documented(axis, name):
    sig = signature(node_of(axis, name)["_target_"])
    if sig.target.split(".")[0] != "rlpost":
        pytest.skip("another library's function")
    assert 10 < len(sig.doc.line) <= 120
    order = [title for title in sig.doc.sections if title in SECTIONS]
    assert order == [title for title in SECTIONS if title in order]
    assert set(sig.doc.sections) <= {*SECTIONS, "Raises"}, "unknown section"
    if axis in MATHEMATICS:
        assert "Equation" in sig.doc.sections


@pytest.mark.parametrize(("axis", "name"), FUNCTIONS)
def test_function_reads_known_fields(axis, name):
    """A field of rollouts (old_logp) serves `grpo` alone: one command that provides everything is enough."""
    sig, commands = signature(node_of(axis, name)["_target_"]), commands_with(axis) or ["grpo"]
    assert any(not field_faults(sig, Place(axis, axis, command)) for command in commands)


@pytest.mark.parametrize("axis", catalogue.MANY)
def test_many_valued_options_have_a_package(axis):
    for name, path in catalogue.options(axis, ROOTS).items():
        package = catalogue.package_of(Path(path)) or ""
        assert package.startswith(f"{axis}."), name
        assert name.startswith(package.removeprefix(f"{axis}.")), (
            "a variant may take the place of its base, nothing else"
        )


@pytest.mark.parametrize(("name", "command"), RECIPES)
def test_recipe_composes_passes_and_says_what_it_is(name, command):
    cfg = compose(command, [f"recipe={name}"])
    check(cfg)
    assert cfg.warnings == []
    about = cfg.tree["about"][name]
    assert set(about) == {"title", "paper", "claim", "assumed"}
    assert all(isinstance(text, str) and text.strip() for text in about.values())


@pytest.mark.parametrize(("name", "command"), RECIPES)
def test_recipe_sets_no_knob_of_another_option(name, command):
    allowed = {"defaults", "about", "trainer", "rollout", "evaluation", "schedules"}
    data = catalogue.read_yaml(catalogue.options("recipe", ROOTS)[name])
    assert set(data) <= allowed
    assert set(data.get("rollout") or {}) <= ROLLOUT_RESERVED
