"""Code that nobody allowed is refused before it is imported, wherever a configuration names it."""

import os
import sys
from pathlib import Path

import pytest

from rlpost import allow, catalogue, config, execute, explain
from rlpost.errors import ConfigError
from rlpost.nodes import build, target
from rlpost.sweep import sweep_plan

PLUGIN = """
import pathlib, subprocess
pathlib.Path(__file__).with_name("imported").write_text("")
from shutil import rmtree
def fixed(rollouts):
    \"\"\"Scores every completion alike.\"\"\"
    return [1.0] * len(rollouts)
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with somebody's module on the search path, and nothing allowed. Whoever imports it leaves a file."""
    (tmp_path / "somebody.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv(allow.VARIABLE, "")
    yield tmp_path
    sys.modules.pop("somebody", None)


def untouched(place: Path) -> bool:
    return not (place / "imported").exists()


def recipes(place: Path, **files: str) -> str:
    """A folder of recipes that somebody wrote, as the override that adds it."""
    for name, text in files.items():
        path = place / "theirs" / f"{name.replace('__', '/')}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return f"hydra.searchpath=['file://{place / 'theirs'}']"


def refused(*overrides: str, command: str = "grpo") -> list[str]:
    with pytest.raises(ConfigError) as found:
        execute.prepare(command, list(overrides))
    return found.value.faults


def test_a_target_outside_of_rlpost_is_refused_with_what_to_type(place):
    (fault,) = refused("reward.mine._target_=somebody.fixed", "trainer.beta=1")
    assert fault == (
        "reward.mine._target_=somebody.fixed names code outside of rlpost, which is not imported before you allow it: "
        "add allow_targets=[somebody] to the command line, or set RLPOST_ALLOW_TARGETS=somebody"
    )
    with pytest.raises(ConfigError, match=r"allow_targets=\[somebody\]"):
        build({"_target_": "somebody.fixed"})
    assert untouched(place)


def test_allowed_by_key_by_variable_and_for_child_processes(place, monkeypatch):
    execute.prepare("grpo", ["reward.mine._target_=somebody.fixed", "allow_targets=[somebody]"])
    assert os.environ[allow.VARIABLE] == "somebody"
    assert build({"_target_": "somebody.fixed"}).func.__module__ == "somebody"
    assert not untouched(place)
    monkeypatch.setenv(allow.VARIABLE, "some, somebody.fix")
    with pytest.raises(ConfigError, match="somebody"):  # neither a prefix of letters nor another function
        build({"_target_": "somebody.fixed"})
    monkeypatch.setenv(allow.VARIABLE, "other,somebody.fixed")
    build({"_target_": "somebody.fixed"})


@pytest.mark.parametrize(
    "override",
    [
        "dataset={_target_: rlpost.dataset.mix.mix, parts: {a: {_target_: somebody.fixed}}}",
        "objective.clip_high={_target_: somebody.fixed}",
        "reward.correct.aggregate={_target_: somebody.fixed}",
        "models.judge={_target_: rlpost.models.scorer.local.Local, model: {_target_: somebody.fixed}}",
        "schedules.mu={_target_: somebody.fixed}",
        "rollout.environment={_target_: rlpost.environment.tools.Tools, parts: [{_target_: somebody.fixed}]}",
    ],
)
def test_nested_targets(place, override):
    (fault,) = refused(override)
    assert "allow_targets=[somebody]" in fault and untouched(place)


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ("rlpost.multirun.subprocess.run", "no module"),  # a module is no package: no walk through its attributes
        ("rlpost.multirun.subprocess", "is no function or class"),
        ("rlpost.multirun.Table", "is defined in rich.table"),
        ("rlpost.reward.math._worker", "private"),
    ],
)
def test_what_rlpost_itself_imports_is_not_rlposts(place, named, words):
    with pytest.raises(ConfigError, match=words):
        target({"_target_": named})
    refused(f"objective._target_={named}")


def test_an_allowed_package_does_not_pass_on_what_others_define(place, monkeypatch):
    monkeypatch.setenv(allow.VARIABLE, "somebody")
    with pytest.raises(ConfigError, match=r"defined in shutil.*allow_targets=\[shutil\]"):
        target({"_target_": "somebody.rmtree"})
    assert "passes on shutil.rmtree" in refused("reward.mine._target_=somebody.rmtree")[0]


def test_every_option_of_rlpost_is_inside(place):
    roots = [catalogue.recipes_dir()]
    found = [
        (f"{axis}._target_", named)
        for axis in catalogue.axes(roots)
        for path in catalogue.options(axis, roots).values()
        for _, named in allow.targets(catalogue.read_yaml(path))
    ]
    assert len(found) > 150
    outside = {named for key, named in found if not allow.permits(named)}
    assert outside == {"peft.LoraConfig"}
    for key, named in found:
        if key != "peft._target_":
            allow.require(named, key)


@pytest.mark.parametrize(
    "named", ["os.system", "peft.PeftModel", "peft.tuners.lora.config.importlib", "somebody.Config"]
)
def test_an_adapter_is_one_of_pefts(place, named):
    assert (
        f"peft._target_={named} is no configuration of an adapter" in refused("peft=lora", f"peft._target_={named}")[0]
    )


def test_a_file_cannot_allow_itself(place):
    theirs = "# @package _global_\nallow_targets: [somebody]\nreward: {mine: {_target_: somebody.fixed}}\n"
    path = recipes(place, recipe__theirs=theirs)
    assert refused(path, "recipe=theirs")[0] == allow.MISPLACED
    stage = "{name: a, run: grpo, with: ['allow_targets=[somebody]', reward.mine._target_=somebody.fixed]}"
    path = recipes(place, pipeline__theirs=f"stages: [{stage}]\n")
    assert any(allow.MISPLACED in fault for fault in refused(path, "pipeline=theirs", command="run"))
    assert untouched(place) and not os.environ[allow.VARIABLE]


def test_a_run_folder_cannot_allow_itself(place):
    run = place / "run"
    run.mkdir()
    lines = ["allow_targets=[somebody]", "reward=[external]", "reward.external.path=somebody.fixed"]
    (run / "overrides.txt").write_text("\n".join(lines))
    assert allow.MISPLACED in refused(f"resume={run}")
    (run / "overrides.txt").write_text("\n".join(lines[1:]))
    assert "reward.external.path=somebody.fixed names code" in refused(f"resume={run}")[0]
    (run / "config.yaml").write_text("model: {_target_: somebody.fixed}\n")
    from rlpost.models.saved import trained

    with pytest.raises(ConfigError, match="names code outside"):
        trained(run=str(run))
    assert untouched(place)
    execute.prepare("grpo", [f"resume={run}", "allow_targets=[somebody]"])


def test_a_path_to_code_is_allowed_where_it_is_typed_and_not_in_a_file(place, monkeypatch):
    code = str(place / "somebody.py")
    theirs = f"# @package _global_\nreward: {{mine: {{_target_: rlpost.reward.external.trl, path: '{code}:fixed'}}}}\n"
    path = recipes(place, recipe__theirs=theirs)
    assert f"reward.mine.path={code}:fixed names code" in refused(path, "recipe=theirs")[0]
    from rlpost.environment.tools import Tools
    from rlpost.reward.external import load

    for attempt in (lambda: load(f"{code}:fixed"), lambda: Tools(path=f"{code}:fixed")):
        with pytest.raises(ConfigError, match="names code outside"):
            attempt()
    assert untouched(place)
    execute.prepare("grpo", ["reward=[external]", f"reward.external.path={code}:fixed"])
    assert load(f"{code}:fixed").__name__ == "fixed"


def test_catalogue_commands_read_source_and_import_nothing(place):
    recipes(place, reward__mine="# @package reward.mine\n_target_: somebody.fixed\n")
    text = explain.explain("reward=mine", False, place / "theirs")
    assert "Scores every completion alike" in text and untouched(place)


def test_a_package_of_recipes_is_imported_by_hydra_and_must_be_allowed(place):
    with pytest.raises(ConfigError, match=r"hydra\.searchpath=somebody\.conf names code"):
        config.compose("grpo", ["hydra.searchpath=[pkg://somebody/conf]"])
    assert untouched(place)


def test_a_recipe_cannot_read_the_environment(place, monkeypatch):
    monkeypatch.setenv("MY_SECRET_TOKEN", "tell-nobody")
    path = recipes(place, recipe__theirs="# @package _global_\nrun: {name: 'x${oc.env:MY_SECRET_TOKEN}'}\n")
    (fault,) = refused(path, "recipe=theirs")
    assert "${oc.env:MY_SECRET_TOKEN} reads your environment" in fault and "tell-nobody" not in fault
    roundabout = "# @package _global_\nabout: {a: oc.env}\nrun: {name: '${${about.a}:MY_SECRET_TOKEN}'}\n"
    assert "reads your environment" in refused(recipes(place, recipe__theirs=roundabout), "recipe=theirs")[0]
    assert execute.prepare("grpo", ["run.name='${oc.env:MY_SECRET_TOKEN}'"]).tree["run"]["name"] == "tell-nobody"


def test_a_recipe_cannot_decide_what_hydra_starts(place):
    theirs = (
        "# @package _global_\nhydra: {callbacks: {x: {_target_: somebody.fixed}}, job: {env_set: {PYTHONPATH: x}}}\n"
    )
    path = recipes(place, recipe__theirs=theirs)
    with pytest.raises(ConfigError, match=r"a recipe folder sets hydra\.(callbacks|job).*allow_targets=\[hydra\]"):
        sweep_plan("grpo", [path, "recipe=theirs", "seed=1,2"])
    launcher = "# @package hydra.launcher\n_target_: somebody.fixed\n"
    path = recipes(place, hydra__launcher__theirs=launcher)
    with pytest.raises(ConfigError, match=r"sets hydra\."):
        sweep_plan("grpo", [path, "hydra/launcher=theirs", "seed=1,2"])
    sweep_plan("grpo", ["hydra/launcher=joblib", "hydra.launcher.n_jobs=1", "seed=1,2"])
    assert untouched(place)


def test_a_recipe_cannot_open_the_sandbox(place):
    theirs = "# @package _global_\nreward: {mine: {_target_: rlpost.reward.code.unit_tests, allow: [network]}}\n"
    path = recipes(place, recipe__theirs=theirs)
    assert "reward.mine.allow waives 'network'" in refused(path, "recipe=theirs")[0]
    execute.prepare("grpo", ["dataset=functions", "reward=[unit_tests]", "reward.unit_tests.allow=[network]"])
