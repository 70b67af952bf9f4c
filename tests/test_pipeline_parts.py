"""What real stages hand on: weights, an optimizer, completions as data, a reference and a second model."""

import math
import shutil

import pytest
import torch
from safetensors.torch import load_file

from rlpost import built, pipeline
from rlpost.config import Config
from rlpost.errors import ConfigError, ModelError
from rlpost.models.roles import start_from
from rlpost.models.saved import trained
from rlpost.run import checkpoint, files
from rlpost.run.folder import RunFolder
from rlpost.trainers import moments

MOVED = ["trainer.learning_rate=0.05"]
TREE = {
    "with": {
        "all": ["model=tiny", "debug=smoke", "run.report=false"],
        **{verb: ["evaluation.tasks=0"] for verb in ("sft", "dpo", "grpo")},
    },
    "stages": [
        {"name": "sft", "run": "sft", "times": 2, "keep": ["optimizer"], "with": MOVED},
        {"name": "answers", "run": "sample", "init": "sft"},
        {"name": "best", "run": "sft", "init": "sft~1", "data": {"from": "answers", "build": "best_of_group"}},
        {"name": "dpo", "run": "dpo", "init": "sft", "models.reference": "sft~1"},
        {
            "name": "taught",
            "run": "grpo",
            "init": "sft",
            "models.teacher": "sft~1",
            "with": ["regularizer=[teacher_k2]", "rollout.temperature=1.0"],
        },
    ],
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """All stages, once."""
    place = tmp_path_factory.mktemp("pipelines") / "parts"
    cfg = Config("run", {"seed": 0, "run": {"dir": str(place)}, "pipeline": TREE}, {}, {}, [])
    pipeline.run(cfg, RunFolder.create(cfg))
    return place


def steps(folder):
    return [one for one in RunFolder.open(folder).metrics() if one["phase"] == "train" and "loss" in one]


def weights(run):
    return load_file(run / "model" / "model.safetensors")


def test_the_optimizer_goes_on_with_its_moments(ran):
    """Two steps in each run: Adam's own count is 4 at the end of the second, its learning rate that of the run."""
    first, second = (
        torch.load(checkpoint.latest(ran / name / "checkpoints").path / "optimizer.pt", weights_only=True)
        for name in ("sft-1", "sft-2")
    )
    assert {float(one["step"]) for one in first["state"].values()} == {2.0}
    assert {float(one["step"]) for one in second["state"].values()} == {4.0}
    assert second["param_groups"][0]["lr"] == 0.05


def test_the_reference_is_the_model_of_the_stage_that_is_named(ran):
    """Against itself the first loss of DPO is log 2 exactly; here policy and reference are two steps apart."""
    assert abs(steps(ran / "dpo")[0]["loss"] - math.log(2)) > 1e-3
    began = weights(ran / "sft-1")
    reference = trained(run=str(ran / "sft-1"))
    assert all(torch.equal(began[name], value) for name, value in reference.model.state_dict().items() if name in began)
    assert not reference.model.training


def test_a_stage_trains_on_what_another_one_sampled(ran):
    said = {(r.task.id, r.text) for r in built.completions(ran / "answers")}
    rows = files.read_lines(ran / "best" / "built.jsonl")
    assert rows and all((row["task"], row["demonstration"]) in said for row in rows)
    assert steps(ran / "best")[-1]["step"] == 2


def test_a_second_model_is_the_model_of_the_stage_that_is_named(ran):
    """The teacher is the policy two steps earlier, so their log-probabilities differ; the policy's own would not."""
    assert steps(ran / "taught")[0]["teacher_gap"] > 0.01


def test_a_pipeline_stopped_inside_a_stage_goes_on_there(tmp_path):
    """The second run of a stage loses its last step; continued, it ends with the same weights and the same moments."""
    short = ["model=tiny", "run.report=false", "evaluation.tasks=0", "trainer.max_steps=2", "trainer.save_steps=1"]
    batch = ["trainer.per_device_train_batch_size=2", *MOVED]
    stage = {"name": "sft", "run": "sft", "times": 2, "keep": ["optimizer"], "with": [*short, *batch]}
    cfg = Config("run", {"seed": 0, "run": {"dir": str(tmp_path / "p")}, "pipeline": {"stages": [stage]}}, {}, {}, [])
    pipeline.run(cfg, RunFolder.create(cfg))
    last = tmp_path / "p" / "sft-2"
    whole = weights(last)
    for name in ("model", "checkpoints/step-000002"):
        shutil.rmtree(last / name)
    (last / "done.json").unlink()
    pipeline.run(cfg, RunFolder.open(tmp_path / "p", cfg))
    assert [one["step"] for one in steps(last)] == [1, 2]
    assert all(torch.equal(value, whole[name]) for name, value in weights(last).items())
    saved = torch.load(checkpoint.latest(last / "checkpoints").path / "optimizer.pt", weights_only=True)
    assert {float(one["step"]) for one in saved["state"].values()} == {4.0}


def test_an_optimizer_of_another_kind_or_of_an_unfinished_run_is_refused(ran, tmp_path):
    class Alone:
        distributed_type = "NO"

    model = trained(run=str(ran / "sft-1")).model
    plain = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ModelError, match="another kind"):
        moments.go_on(plain, str(ran / "sft-1"), Alone)
    with pytest.raises(ConfigError, match="has no checkpoint of its last step"):
        moments.go_on(plain, str(tmp_path), Alone)
    saved = torch.load(checkpoint.latest(ran / "sft-1" / "checkpoints").path / "optimizer.pt", weights_only=True)
    wide = [torch.nn.Parameter(torch.zeros(7, *p.shape)) for p in model.parameters()]
    state = {"param_groups": [{**group, "params": list(group["params"])} for group in saved["param_groups"]]}
    assert "has the shape" in str(moments._differs(saved, state, wide))
    fewer = {"param_groups": [{**group, "params": []} for group in saved["param_groups"]]}
    assert moments._differs(saved, fewer, wide) == "it trained other parameters"


def test_a_model_is_not_taken_from_a_folder_that_is_no_run(ran, tmp_path):
    with pytest.raises(ModelError, match="no run folder"):
        trained(run=str(tmp_path))


def test_an_adapter_stands_on_what_its_own_run_started_from(ran, tmp_path):
    """A run with an adapter saves the adapter alone; a later stage needs the weights below it too."""
    from rlpost.config import build, compose
    from rlpost.models.roles import with_adapter

    tree = compose("sft", ["model=tiny", "peft=lora", f"init={ran / 'sft-2' / 'model'}"]).tree
    wrapped = with_adapter(start_from(build(tree["model"])(), tree["init"]).model, tree["peft"])
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora" in name:
                parameter.add_(0.1)
    wrapped.save_pretrained(tmp_path / "model")
    (tmp_path / "config.yaml").write_text(f"init: {tree['init']}\n")
    found = start_from(build(tree["model"])(), tmp_path / "model").model.state_dict()
    whole = wrapped.merge_and_unload().state_dict()
    assert found.keys() == whole.keys()
    assert all(torch.allclose(found[name], whole[name], atol=1e-6) for name in whole)
    assert not torch.equal(found["model.embed_tokens.weight"], build(tree["model"])().model.model.embed_tokens.weight)
