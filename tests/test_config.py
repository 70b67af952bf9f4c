from pathlib import Path

import pytest
import yaml

from rlpost import catalogue, config
from rlpost.config import build, check, compose
from rlpost.errors import ConfigError
from rlpost.sweep import sweep_plan


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's own folder: options of three axes and recipes that pick them."""
    files = {
        "objective/mine.yaml": "_target_: rlpost.objective.clipped.ppo_clip\nclip_low: 0.11\nclip_high: 0.13\n",
        "objective/other.yaml": "_target_: rlpost.objective.clipped.ppo_clip\nclip_low: 0.31\nclip_high: 0.33\n",
        "reward/again.yaml": "# @package reward.again\n_target_: rlpost.reward.correct.correct\nweight: 0.7\n",
        "recipe/a.yaml": "# @package _global_\ndefaults:\n  - /reward@reward.more: again\n"
        "  - override /objective: mine\n"
        "trainer: {learning_rate: 1e-3}\nabout: {a: {title: A}}\n",
        "recipe/b.yaml": "# @package _global_\ndefaults:\n  - override /objective: other\n"
        "  - override /aggregate: token_mean\ntrainer: {learning_rate: 2e-3}\nabout: {b: {title: B}}\n",
        "recipe/pairs.yaml": "# @package _global_\ndefaults:\n  - override /preference: ipo\nabout: {}\n",
        "recipe/late.yaml": "# @package _global_\ndefaults:\n  - override /objective: mine\n"
        "  - /reward@reward.more: again\n",
        "recipe/wrong.yaml": "# @package _global_\ndefaults:\n  - override /objective: minne\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def with_folder(folder: Path, *overrides: str) -> config.Config:
    return compose("grpo", [f"hydra.searchpath=['file://{folder}']", *overrides])


def plain(node: object) -> bool:
    if isinstance(node, dict):
        return type(node) is dict and all(type(key) is str and plain(value) for key, value in node.items())
    if isinstance(node, list):
        return type(node) is list and all(map(plain, node))
    return node is None or type(node) in (bool, int, float, str)


@pytest.mark.parametrize("command", [c for c in catalogue.COMMANDS if c != "run"])
def test_every_command_composes_to_plain_data_and_passes(command):
    cfg = compose(command)
    assert plain(cfg.tree)
    assert cfg.tree["seed"] == 0
    assert cfg.tree["run"] == {"dir": None, "name": None, "report": True}
    check(cfg)


def test_many_valued_axes_are_mappings_and_others_are_there():
    tree = compose("grpo").tree
    assert tree["shaping"] == {}
    assert tree["peft"] is None
    assert list(tree["reward"]) == ["correct"]
    assert compose("grpo", ["peft=null", "recipe=null", "reward=null"]).tree["reward"] == {}


def test_recipe_list_later_wins_and_is_told(folder):
    cfg = with_folder(folder, "recipe=[a,b]")
    assert cfg.tree["objective"]["clip_low"] == 0.31
    assert cfg.tree["aggregate"]["_target_"].endswith(".token_mean")
    assert cfg.tree["trainer"]["learning_rate"] == 0.002
    assert list(cfg.tree["reward"]) == ["correct", "more"]
    assert list(cfg.tree["about"]) == ["a", "b"]
    assert cfg.warnings == ["recipes a and b both pick objective: b's other is used, not mine"]
    assert with_folder(folder, "recipe=[b,a]").tree["objective"]["clip_low"] == 0.11


def test_command_line_pick_beats_recipes_and_silences_the_clash(folder):
    cfg = with_folder(folder, "recipe=[a,b]", "objective=gspo", "trainer.learning_rate=7e-6")
    assert cfg.tree["objective"]["_target_"].endswith(".gspo")
    assert cfg.tree["objective"]["clip_high"] == 4e-4
    assert cfg.tree["trainer"]["learning_rate"] == 7e-6
    assert cfg.warnings == []


def test_origin_names_file_and_command_line(folder):
    cfg = with_folder(folder, "recipe=a", "seed=3", "debug=smoke")
    origin = cfg.origin
    assert origin["seed"] == "command line"
    assert origin["trainer.max_steps"] == "recipes/debug/smoke.yaml"
    assert origin["trainer.bf16"] == "recipes/trainer/grpo.yaml"
    assert origin["trainer.learning_rate"] == str(folder / "recipe/a.yaml")
    assert origin["objective.clip_low"] == str(folder / "objective/mine.yaml")
    assert origin["reward.more.weight"] == str(folder / "reward/again.yaml")
    assert set(origin) == set(config.flatten(cfg.tree))


def test_picks(folder):
    picks = with_folder(folder, "recipe=[a,b]", "reward=[correct]").picks
    assert picks["recipe"] == ["a", "b"]
    assert picks["objective"] == ["other"]
    assert picks["debug"] == ["none"]


def test_interpolations_are_resolved():
    tree = compose("grpo", ["aggregate=fixed_length", "rollout.max_tokens=37"]).tree
    assert tree["aggregate"]["max_tokens"] == 37


def test_interpolation_without_a_target_is_a_fault():
    with pytest.raises(ConfigError, match="interpolation"):
        check(compose("grpo", ["seed=${nothing.there}"]))


def test_values_as_if_forced_and_deleted():
    cfg = compose(
        "grpo", ["+trainer.warmup_steps=3", "~trainer.bf16", "++objective.clip_high=0.4", "trainer.optim=sgd"]
    )
    assert cfg.tree["trainer"]["warmup_steps"] == 3
    assert "bf16" not in cfg.tree["trainer"]
    assert cfg.tree["objective"]["clip_high"] == 0.4
    check(cfg)
    assert compose("grpo", ["~trainer.bf61"]).faults == [
        "~trainer.bf61: there is no such key to remove; did you mean 'trainer.bf16'?"
    ]


def test_another_function_replaces_the_node():
    node = compose("grpo", ["objective={_target_: rlpost.objective.soft.cispo}"]).tree["objective"]
    assert node == {"_target_": "rlpost.objective.soft.cispo"}


def test_debug_section_beats_recipes_but_not_the_command_line(folder):
    tree = with_folder(folder, "debug=smoke", "trainer.max_steps=5").tree
    assert tree["trainer"]["max_steps"] == 5
    assert tree["rollout"]["max_tokens"] == 8
    assert "debug" not in tree


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("objective=ppo_clp", "unknown objective 'ppo_clp'; did you mean 'ppo_clip'?"),
        ("recipe=gsppo", "unknown recipe 'gsppo'; did you mean 'gspo'?"),
        ("preference=ipo", "`rlpost grpo` has no preference; commands with it: dpo"),
        (
            "recipe=dpo",
            "recipe=dpo picks preference, which `rlpost grpo` does not have; it is for `rlpost dpo recipe=dpo`",
        ),
        ("seed=1,2", "add -m for a sweep"),
        ("seed 3", "cannot read the override 'seed 3'"),
    ],
)
def test_bad_overrides_are_sentences(override, sentence):
    cfg = compose("grpo", [override])
    assert len(cfg.faults) == 1
    assert sentence in cfg.faults[0]
    with pytest.raises(ConfigError):
        check(cfg)


def test_a_value_below_a_number_is_a_wrong_type():
    with pytest.raises(ConfigError, match="seed: must be a whole number, not the mapping"):
        check(compose("grpo", ["seed.x=3"]))


def test_recipe_with_unknown_option_and_additions_after_overrides(folder):
    assert "picks the unknown objective 'minne'; did you mean 'mine'?" in with_folder(folder, "recipe=wrong").faults[0]
    assert "additions" in with_folder(folder, "recipe=late").faults[0]


def test_one_bad_recipe_of_a_list_leaves_the_other(folder):
    cfg = with_folder(folder, "recipe=[a,pairs]")
    assert cfg.tree["objective"]["clip_low"] == 0.11
    assert len(cfg.faults) == 1


def test_search_path_that_is_no_folder():
    with pytest.raises(ConfigError, match="no folder"):
        compose("grpo", ["hydra.searchpath=['file:///does/not/exist']"])


def test_unknown_command():
    with pytest.raises(ConfigError, match="did you mean 'grpo'"):
        compose("gpro")


def test_to_yaml_round_trip():
    tree = compose("grpo").tree
    assert yaml.safe_load(config.to_yaml({"a": [1, None], "b": {"c": "x"}})) == {"a": [1, None], "b": {"c": "x"}}
    assert "learning_rate: 1.0e-05" in config.to_yaml(tree)


def test_build_binds_knobs_and_leaves_reserved_keys_out():
    node = {
        "_target_": "rlpost.objective.clipped.ppo_clip",
        "clip_low": 0.1,
        "clip_high": 0.3,
        "coef": 2.0,
        "weight": 3.0,
    }
    made = build(node)
    assert made.keywords == {"clip_low": 0.1, "clip_high": 0.3}
    rollout = build(compose("grpo").tree["rollout"])
    assert rollout.keywords == {}


def test_build_makes_instances_of_classes():
    made = build(compose("grpo").tree["curriculum"])
    assert hasattr(made, "pick")
    assert not isinstance(made, type)


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("rlpost.objective.clipped.nothing", "has no 'nothing'"),
        ("rlpost.objektive.clipped.ppo_clip", "there is no module"),
    ],
)
def test_build_says_what_is_missing(target, sentence):
    with pytest.raises(ConfigError, match=sentence):
        build({"_target_": target})
    with pytest.raises(ConfigError, match="names its function"):
        build({})


def test_build_names_the_extra_for_a_missing_package(tmp_path, monkeypatch):
    (tmp_path / "needs_av.py").write_text("import av_is_not_here\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("RLPOST_ALLOW_TARGETS", "needs_av")
    with pytest.raises(ConfigError, match="pip install av_is_not_here"):
        build({"_target_": "needs_av.f"})


@pytest.mark.parametrize("order", [1, -1])
def test_a_second_model_replaces_the_one_that_a_recipe_brings(order):
    picks = ["recipe=think_rm", "scorer@models.judge=server"][::order]
    cfg = compose("grpo", [*picks, "models.judge.base_url=http://localhost:1/v1", "models.judge.model=m"])
    assert not cfg.faults and cfg.tree["models"]["judge"]["_target_"].endswith("Server")
    cfg = compose("grpo", ["recipe=think_rm", "scorer@models.other=stand_in"])
    assert not cfg.faults and set(cfg.tree["models"]) == {"judge", "other"}


def test_an_override_that_lists_thousands_of_values_is_refused_at_once():
    with pytest.raises(ConfigError, match=r"'recipe=\[a,a.* lists 30000 values; a command line may list 2000"):
        compose("grpo", ["seed=1", f"recipe=[{','.join(['a'] * 30000)}]"])
    with pytest.raises(ConfigError, match="lists 30000 values"):
        sweep_plan("grpo", [f"seed={','.join(['1'] * 30000)}"])
    text = ", ".join(["one"] * 5000)
    assert compose("grpo", [f"run.name='{text}'"]).tree["run"]["name"] == text


def test_hydras_own_run_folder_is_refused_with_the_key_of_ours():
    assert any("run.dir=<folder>" in fault for fault in compose("grpo", ["hydra.run.dir=x"]).faults)


def test_an_option_without_its_package_is_told_what_to_begin_with(tmp_path):
    (tmp_path / "reward").mkdir()
    (tmp_path / "reward" / "mine.yaml").write_text("_target_: rlpost.reward.correct.correct\n", encoding="utf-8")
    cfg = compose("grpo", [f"hydra.searchpath=['file://{tmp_path}']", "reward=[mine]"])
    with pytest.raises(ConfigError, match=r"begins with `# @package reward\.<name>`"):
        check(cfg)
