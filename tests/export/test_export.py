"""Exported folders: what is in them, what they answer, and that a wrong one is told and never left behind."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlpost.compare import command as compare
from rlpost.errors import ConfigError, ModelError, SelfCheckError
from rlpost.export import command, source, verify, weights
from rlpost.export.verify import Sample
from rlpost.models.load import hub
from rlpost.models.vision import hub_media
from rlpost.run import checkpoint
from tests.export.runs import in_process, run_sft, saved_base


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return saved_base(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def lora(base, tmp_path_factory):
    """A run that trained an adapter on a saved model."""
    place = tmp_path_factory.mktemp("lora") / "run"
    return run_sft(place, "model=hub", f"model.path={base}", "model.dtype=float32", "peft=lora")


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A run that trained all weights of a model that is built from its configuration."""
    return run_sft(tmp_path_factory.mktemp("full") / "run", "model=tiny")


@pytest.fixture
def idle(lora, tmp_path):
    """The run of the adapter with B = 0, as if no gradient had ever reached it."""
    place = Path(shutil.copytree(lora, tmp_path / "idle", ignore=shutil.ignore_patterns("export*")))
    file = place / "model" / "adapter_model.safetensors"
    zeroed = {name: value * 0 if "lora_B" in name else value for name, value in load_file(file).items()}
    save_file(zeroed, file)
    return place


def logits(model, ids=(5, 6, 7, 8)):
    with torch.no_grad():
        return model.eval()(torch.tensor([ids])).logits


def test_a_merged_adapter_is_verified_by_a_fresh_process_and_is_the_adapter_on_its_base(lora, base, capsys, tmp_path):
    place = command.run(lora, to="merged", out=tmp_path / "merged", check=True)
    whole = logits(AutoModelForCausalLM.from_pretrained(place))
    bare = AutoModelForCausalLM.from_pretrained(base)
    assert (logits(bare) - whole).abs().max() > 1e-2
    # Adding the same float32 numbers in another order: a few units in the last place of logits below 10.
    assert torch.allclose(whole, logits(PeftModel.from_pretrained(bare, str(lora / "model"))), atol=1e-5)
    assert not [f.name for f in place.iterdir() if f.suffix in (".bin", ".pt", ".pth", ".pkl")]
    assert checkpoint.verify(place) == []
    told = capsys.readouterr().out
    assert "FAILED" not in told and told.count(" ok ") == 6
    card = (place / "README.md").read_text()
    for part in (
        "temperature 1.0",
        "max_tokens 12",
        "- differs from the base: 14 of 21 tensors differ",
        f"| base | {base}",
    ):
        assert part in card, part
    assert "base_model" not in card  # the hub refuses a path there
    assert hub(path=str(place), dtype="float32").encoder.tokenizer.chat_template


def test_an_adapter_stays_one_and_names_its_base(lora, base, tmp_path, monkeypatch):
    in_process(monkeypatch)
    place = command.run(lora, out=tmp_path / "adapter", check=True)
    assert json.loads((place / "adapter_config.json").read_text())["base_model_name_or_path"] == str(base)
    assert not (place / "model.safetensors").exists()
    trained = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(lora / "model"))
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(place)), logits(trained))


def test_all_weights_are_copied_and_agree(full, tmp_path, monkeypatch):
    in_process(monkeypatch)
    place = command.run(full, out=tmp_path / "full", check=True)
    assert (place / "model.safetensors").read_bytes() == (full / "model" / "model.safetensors").read_bytes()
    tokenizer = AutoTokenizer.from_pretrained(place)
    assert tokenizer.chat_template == AutoTokenizer.from_pretrained(full / "model").chat_template
    stop = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert json.loads((place / "generation_config.json").read_text())["eos_token_id"] == stop
    with pytest.raises(ConfigError, match="an export overwrites nothing"):
        command.run(full, out=place)


def test_an_adapter_that_changes_nothing_is_reported_and_leaves_nothing(idle, monkeypatch, capsys):
    in_process(monkeypatch)
    with pytest.raises(SelfCheckError, match="merged equals base: all 21 tensors are byte-identical") as caught:
        command.run(idle, to="merged", check=True)
    assert caught.value.exit_code == 8
    assert "FAILED" in capsys.readouterr().out
    with pytest.raises(SelfCheckError, match="the adapter equals its base"):
        command.run(idle, check=True)
    assert sorted(f.name for f in idle.iterdir() if "export" in f.name) == []


def test_other_weights_than_the_trained_ones_are_reported(lora, tmp_path, monkeypatch):
    in_process(monkeypatch)
    honest = weights.save

    def off(model, folder):
        with torch.no_grad():
            model.model.norm.weight.mul_(1.01)
        honest(model, folder)
        with torch.no_grad():
            model.model.norm.weight.div_(1.01)

    monkeypatch.setattr(weights, "save", off)
    with pytest.raises(SelfCheckError, match=r"logits differ by at most .* \(limit 0\.001"):
        command.run(lora, to="merged", out=tmp_path / "off", check=True)
    assert list(tmp_path.iterdir()) == []


def test_sixteen_bits_must_keep_half_of_what_training_changed():
    base = torch.zeros(2, 3)
    sample = Sample(None, None, [1, 2], logits=torch.ones(2, 3), base_logits=base)  # type: ignore[arg-type]
    # The error is a share of the effect: |1 - x| of 1.
    for x, kept in ((1.4, "60%"), (0.5, "50%")):
        found = verify.agrees([sample], [torch.full((2, 3), x)], "bfloat16")
        assert found.passed and f"keeps {kept}" in found.said
    found = verify.agrees([sample], [torch.full((2, 3), 0.4)], "bfloat16")
    assert not found.passed and found.said.endswith("export with --dtype float32")
    assert not verify.agrees([sample], [torch.full((2, 3), 1.0011)], "float32").passed
    assert verify.agrees([sample], [torch.full((2, 3), 1.0009)], "float32").passed
    assert not verify.agrees([sample], [torch.ones(2, 4)], "float32").passed


def test_rounding_that_swallows_the_adapter_is_found(base):
    bundle = hub(path=str(base), dtype="float32")
    before = verify.digests(bundle.model, "bfloat16")
    with torch.no_grad():
        bundle.model.model.norm.weight.add_(1e-4)  # bfloat16 has steps of 2^-7 above 1
    found = source.Source(Path(), base, "", "sft", {})
    assert not verify.weights_differ(before, verify.digests(bundle.model, "bfloat16"), found, "bfloat16").passed
    exact = verify.weights_differ(before, verify.digests(bundle.model, "float32"), found, "float32")
    assert exact.passed


def test_a_checkpoint_is_named_or_taken_where_the_run_did_not_end_well(full, tmp_path):
    assert source.find(full).label == "the final model"
    assert source.find(full, "2").weights == full / "checkpoints" / "step-000002"
    with pytest.raises(ConfigError, match=r"--checkpoint step-000007: there is none .* step-000002"):
        source.find(full, "7")
    place = Path(shutil.copytree(full, tmp_path / "cut"))
    (place / "done.json").write_text('{"status": "interrupted"}')
    assert source.find(place).weights.name == "step-000002"
    shutil.rmtree(place / "checkpoints")
    assert source.find(place).weights == place / "model"
    (place / "model" / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="holds no weights in safetensors"):
        source.find(place)
    shutil.rmtree(place / "model")
    with pytest.raises(ModelError, match="neither a model nor a whole checkpoint"):
        source.find(place)


def test_what_cannot_be_exported_is_refused(full, lora, tmp_path):
    with pytest.raises(ConfigError, match="--to gguf is no format") as caught:
        command.run(full, to="gguf", dtype="int8")
    assert len(caught.value.faults) == 3
    with pytest.raises(ConfigError, match="is not a run folder"):
        command.run(tmp_path)
    place = Path(shutil.copytree(full, tmp_path / "other"))
    (place / "environment.json").write_text('{"verb": "eval"}')
    with pytest.raises(ConfigError, match="a run of `rlpost eval`, which saves no model"):
        command.run(place)
    (place / "stages.json").write_text('{"a/b": {"run": "sft"}, "c": {"run": "eval"}}')
    with pytest.raises(ConfigError, match=r"export one of its stages: .*other/a/b$"):
        command.run(place)
    found = source.find(lora)
    built = source.Source(found.run, found.weights, "", "sft", {"model": {}, "init": None})
    bundle = hub(path=found.tree["model"]["path"], dtype="float32")
    bundle.source = "tiny:llama"
    with pytest.raises(ConfigError, match=r"built from its configuration .* --to merged"):
        weights.adapter_base(built, bundle)


def test_the_processor_of_a_model_without_one_carries_its_numbers(full, tmp_path):
    from rlpost.models.tiny_video import video_tiny

    bundle = video_tiny()
    found = source.Source(full, full / "model", "", "sft", {"model": {}})
    weights.companions(found, bundle, tmp_path)
    again = hub_media(bundle.model, bundle.encoder.tokenizer, str(tmp_path), None)
    for name in ("patch_size", "merge", "temporal", "image_min_pixels", "image_max_pixels", "mean", "std"):
        assert getattr(again, name) == getattr(bundle.encoder.media, name), name
    video = json.loads((tmp_path / "video_preprocessor_config.json").read_text())
    assert (video["fps"], video["max_frames"]) == (4.0, 8)


def test_training_runs_can_be_compared(full, lora):
    found = compare.compare([full, lora])
    assert [run.when for run in found.runs] == ["after", "after"]
    assert found.metrics[0].arms[found.arms[0].name].n == 2
    assert "peft.r" in {row.key for row in found.configuration}
    assert not [row for row in found.data if row.key.startswith("trained_on")]
    assert found.tokens > 0


def test_what_draws_nothing_says_nothing_of_sampling(full, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command.card, "sampled", lambda found: "")
    command.run(full, out=tmp_path / "out")
    assert "sampling" not in capsys.readouterr().out
