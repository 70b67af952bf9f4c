import dataclasses
import subprocess
import sys
import textwrap

import pytest

from rlpost.checks import annotation
from rlpost.checks.trainer import OWNED, _table, owner
from rlpost.config import check, compose
from rlpost.errors import ConfigError
from rlpost.source import TargetMissing, signature
from scripts.trl_fields import CONFIGS, table


def faults(*overrides: str, command: str = "grpo") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        check(compose(command, list(overrides)))
    return caught.value.faults


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A module of a user's own functions, which must be read and never imported."""
    (tmp_path / "my_plugin.py").write_text(
        textwrap.dedent(
            '''
            from typing import Literal
            raise RuntimeError("the check imported me")
            Level = Literal["token", "sequence"]
            def critic(logp, value):
                """Reads a critic."""
            def fine(logp, advantage, *, level: Level = "token", top: int | None = None,
                     cuts: tuple[float, float] = (0.1, 0.2), names: list[str] = ()):
                """Reads what there is."""
            def typo(logp, advantagee):
                """Reads what no record has."""
            def unsaid(rollouts):
                """Scores rows or spans, it does not say."""
            def numbers(rollouts) -> list[float]:
                """Scores rows."""
            def demands(logp, *, width: float):
                """Has a knob without default."""
            '''
        ),
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("RLPOST_ALLOW_TARGETS", "my_plugin")
    signature.cache_clear()
    return "my_plugin"


def test_all_faults_at_once():
    found = faults("sed=3", "objective=ppo_clp", "rollout.temprature=1", "trainer.bta=1", "recipe=gsppo", "run.dri=x")
    assert len(found) == 6
    text = "\n".join(found)
    for word in ("'seed'", "'ppo_clip'", "'temperature'", "'beta'", "'gspo'", "'dir'"):
        assert f"did you mean {word}" in text


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("objective.clip_low=abc", "objective.clip_low: must be a number, not the text 'abc' (default 0.2)"),
        ("objective.clip_low=true", "must be a number, not true"),
        ("objective.clip_lo=0.1", "did you mean 'clip_low'?; ppo_clip takes clip_low, clip_high"),
        ("dataset.terms=2.5", "dataset.terms: must be a whole number, not 2.5"),
        ("reward.correct.weight=a", "reward.correct.weight: must be a number"),
        ("reward.corect.weight=1", "unknown key 'reward.corect'; did you mean 'correct'?"),
        ("reward=[]", "there is no reward: pick at least one"),
        ("model=hub", "model.path has no default: set model.path=<value>"),
        ("seed=a", "seed: must be a whole number"),
        ("run.report=maybe", "run.report: must be true or false"),
        ("rollout.num_generations=0", "rollout.num_generations: must be at least 1, not 0"),
        ("rollout.top_p=1.5", "rollout.top_p: must lie in (0, 1], not 1.5"),
        ("trainer.learning_rate=fast", "trainer.learning_rate: must be a number, not the text 'fast'"),
        ("trainer.lr_scheduler_type=cosin", "did you mean 'cosine'?"),
        ("trainer.beta=0.1", "trainer.beta is decided elsewhere in rlpost: set regularizer="),
        ("trainer.temperature=0.1", "set rollout.temperature"),
        ("trainer.vllm_mode=colocate", "set rollout.engine"),
        ("trainer.seed=1", "trainer.seed is decided elsewhere in rlpost: set seed"),
        ("launch.num_proceses=2", "did you mean 'num_processes'?"),
        ("objective._target_=rlpost.objective.clipped.ppo_clp", "rlpost.objective.clipped has no 'ppo_clp'"),
        ("objective._target_=rlpost.objektive.clipped.ppo_clip", "there is no module 'rlpost.objektive'"),
        ("objective=null", "objective is empty; pick an option, objective=<name>"),
        ("evaluation.taks=3", "did you mean 'tasks'?"),
    ],
)
def test_one_fault_one_sentence(override, sentence):
    found = faults(override)
    assert len(found) == 1, found
    assert sentence in found[0]


def test_eval_knows_its_own_trainer_keys():
    assert "did you mean 'limit'?" in faults("trainer.limt=3", command="eval")[0]


def test_group_relative_advantage_with_one_completion():
    found = faults("rollout.num_generations=1")
    assert len(found) == 1
    assert "advantage group_zscore compares the completions of a prompt" in found[0]


@pytest.mark.parametrize(
    ("rows", "steps", "group", "nearest"),
    [
        (15, 1, 8, "8 or 16"),
        (12, 1, 8, "8 or 16"),
        (3, 1, 4, "4"),
        (4, 2, 8, "8"),
        (5, 2, 4, "4 or 6"),
        (7, 3, 2, "6 or 8"),
    ],
)
def test_batch_arithmetic_names_the_nearest(rows, steps, group, nearest):
    values = {"per_device_train_batch_size": rows, "gradient_accumulation_steps": steps}
    settings = [f"trainer.{key}={value}" for key, value in values.items()]
    found = faults(*settings, f"rollout.num_generations={group}")
    assert len(found) == 1
    assert found[0].endswith(f"trainer.per_device_train_batch_size that does is {nearest}")


def test_batch_arithmetic_counts_processes(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    check(compose("grpo", ["launch=torchrun", "trainer.per_device_train_batch_size=8"]))
    found = faults("launch=torchrun", "launch.num_processes=3", "trainer.per_device_train_batch_size=4")
    assert "4 rows x 1 micro-batches x 3 processes = 12 rows a step" in found[0]
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert len(faults("trainer.per_device_train_batch_size=4")) == 1


def test_own_functions_are_judged_without_import(plugin):
    node = f"objective={{_target_: {plugin}.fine, level: tokn, top: x, cuts: [0.1], names: [a, 2]}}"
    found = "\n".join(faults(node))
    assert "objective.level: must be one of 'token', 'sequence'; did you mean 'token'?" in found
    assert "objective.top: must be a whole number or null, not the text 'x'" in found
    assert "objective.cuts: must be tuple[float, float], not the list [0.1]" in found
    assert "objective.names: must be list[str], not the list ['a', 2]" in found
    check(compose("grpo", [f"objective={{_target_: {plugin}.fine, level: sequence, cuts: [0.1, 1]}}"]))


def test_fields_that_nothing_provides(plugin):
    assert (
        "critic reads 'value', but no critic is picked; set critic=<name>; there are separate, separate_all"
        in faults(f"objective={{_target_: {plugin}.critic}}")[0]
    )
    assert (
        "typo reads 'advantagee', which is no field of TokenBatch; did you mean 'advantage'?"
        in faults(f"objective={{_target_: {plugin}.typo}}")[0]
    )
    assert (
        "objective.width is missing: demands has no default" in faults(f"objective={{_target_: {plugin}.demands}}")[0]
    )
    assert (
        "fine reads 'advantage', which `rlpost sft` does not provide"
        in faults(f"sft_loss={{_target_: {plugin}.fine}}", command="sft")[0]
    )


def test_divergence_that_is_not_picked():
    assert "reads 'ref_divergence', but no divergence is picked" in faults("sft_loss=asft", command="sft")[0]
    check(compose("sft", ["recipe=asft"]))


def test_scores_of_spans_that_nothing_gives(plugin):
    """The annotation of a reward says what it scores; one without an annotation may score spans."""
    (said,) = faults("advantage=pure")
    assert said == (
        "advantage: pure reads 'span_rewards', but no reward scores spans; add one that does: "
        "reward=[correct,step_scores]"
    )
    judge = "scorer@models.process=stand_in"
    check(compose("grpo", ["advantage=pure", "reward=[correct,step_scores]", judge]))
    check(compose("grpo", ["advantage=pure", f"reward.own._target_={plugin}.unsaid"]))
    (said,) = faults("advantage=pure", f"reward.own._target_={plugin}.numbers")
    assert said.endswith("reward=[correct,own,step_scores]")


def test_schedules_stand_for_numbers():
    line = "schedules.mu={_target_: rlpost.schedule.linear, start: 0.4, end: 0.2}"
    check(compose("grpo", [line, "objective.clip_low=${schedules.mu}", "reward.correct.weight=${schedules.mu}"]))
    found = faults("schedules.mu={_target_: rlpost.schedule.linear, strat: 1, end: 0.2}")
    assert any("did you mean 'start'?" in fault for fault in found)
    assert "is a schedule, but arithmetic wants int" in faults(line, "dataset.terms=${schedules.mu}")[0]


@pytest.mark.parametrize(
    ("value", "kind", "fits"),
    [
        (1, "float", True),
        (1.0, "int", False),
        ("1", "int", False),
        (True, "int", False),
        (True, "float", False),
        (None, "float | None", True),
        (None, "float", False),
        ([1, 2], "tuple[int, ...]", True),
        ([1, "a"], "Sequence[int]", False),
        ({"a": 1}, "dict[str, float]", True),
        ("b", "Literal['a', 'b'] | None", True),
        ("c", "Literal['a', 'b'] | None", False),
        ("c", "SomethingElse", True),
        ("x", "Optional[int]", False),
        ("x", "'int'", False),
    ],
)
def test_values_against_annotations(value, kind, fits):
    assert (annotation.wrong(value, kind) is None) is fits


def test_trl_table_equals_trl():
    assert _table() == table(), "run scripts/trl_fields.py"
    for command, config in CONFIGS.items():
        assert set(_table()[command]) == {f.name for f in dataclasses.fields(config) if f.init}


def test_owned_fields_exist_in_trl():
    for command, names in OWNED.items():
        assert set(names) <= set(_table()[command]), command
    assert owner("grpo", "learning_rate") is None


def test_missing_target_is_a_sentence():
    with pytest.raises(TargetMissing, match="is a module and has no submodule"):
        signature("rlpost.masked.deeper.f")
    with pytest.raises(TargetMissing, match="not a dotted path"):
        signature("plain")


def test_relative_reexports_are_followed():
    sig = signature("peft.LoraConfig")
    assert sig.open
    assert sig.knobs["r"].default == 8


def test_check_imports_nothing_heavy():
    code = """
        import sys
        from rlpost.config import check, compose
        check(compose("grpo", ["recipe=[gspo,gdpo]", "trainer.max_steps=3"]))
        heavy = {"torch", "transformers", "trl", "datasets", "peft", "accelerate", "typer"} & set(sys.modules)
        assert not heavy, heavy
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("kernels.prefix=maybe", "kernels.prefix: must be one of 'auto', 'on', 'off'"),
        ("kernels.prefix=1", "kernels.prefix"),
        ("kernels=off", "kernels must be a mapping with prefix, completions_at_once"),
        ("kernels.completions_at_once=0", "must be at least 1"),
        ("kernels.completions_at_once=two", "kernels.completions_at_once"),
    ],
)
@pytest.mark.parametrize("command", ["grpo", "dpo"])
def test_kernel_settings_are_judged(command, override, said):
    check(compose(command, ["kernels.prefix=on", "kernels.completions_at_once=2"]))
    check(compose(command, ["kernels.prefix=true"]))
    (fault,) = faults(override, command=command)
    assert said in fault
