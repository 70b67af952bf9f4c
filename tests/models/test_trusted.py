"""Models are read without their code, without pickles, and without what their files ask transformers to fetch."""

import ast
import json
import pickle
from pathlib import Path

import pytest
import torch

import rlpost
from rlpost.errors import ConfigError, DataError, ModelError
from rlpost.models.load import hub
from rlpost.models.roles import start_from, with_adapter
from rlpost.models.tiny import text as tiny
from rlpost.models.trusted import PICKLES, safe_adapter

SOURCE = Path(rlpost.__file__).parent
CODE_FREE = ("PeftModel",)  # peft has no code of a model to trust
NO_WEIGHTS = ("AutoConfig", "AutoTokenizer", "GenerationConfig", "config_class")


class Bomb:
    """Unpickled, it leaves a file: what any pickle may do."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return (Path.write_text, (self.mark, "ran"))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A tiny model with its tokenizer, as a folder."""
    folder = tmp_path_factory.mktemp("model")
    bundle = tiny()
    bundle.model.save_pretrained(folder)
    bundle.encoder.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def copy(saved, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for file in saved.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def test_the_bomb_is_one(tmp_path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / "mark")))
    assert (tmp_path / "mark").exists()


def changed(file: Path, **values) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def from_pretrained_calls() -> list[tuple[str, str, dict[str, object]]]:
    """Every call in rlpost: where, on what, and its keywords with those values that are constants."""
    found = []
    for file in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            called = node.func if isinstance(node, ast.Call) else None
            if isinstance(called, ast.Attribute) and called.attr == "from_pretrained":
                given = {k.arg: getattr(k.value, "value", "?") for k in node.keywords}
                found.append((f"{file.name}:{node.lineno}", ast.unparse(called.value), given))
    return found


def test_every_call_says_no_to_foreign_code_and_to_pickles():
    calls = [call for call in from_pretrained_calls() if call[1].split(".")[-1] not in CODE_FREE]
    assert len(calls) >= 14
    for where, owner, given in calls:
        assert given.get("trust_remote_code") is False, where
        if not owner.endswith(NO_WEIGHTS) and "gguf_file" not in given:
            assert given.get("use_safetensors") is True, where


def test_code_beside_a_model_is_not_run(copy):
    mark = copy / "mark"
    (copy / "modeling_theirs.py").write_text(f"open({str(mark)!r}, 'w').write('ran')\nclass Theirs: pass\n")
    auto = dict.fromkeys(("AutoConfig", "AutoModelForCausalLM", "AutoTokenizer"), "modeling_theirs.Theirs")
    changed(copy / "config.json", auto_map=auto, model_type="theirs")
    with pytest.raises(ModelError, match="cannot be loaded"):
        hub(path=str(copy))
    assert not mark.exists()


def test_pickled_weights_are_not_read(copy, saved):
    mark = copy / "mark"
    (copy / "model.safetensors").unlink()
    torch.save({"w": Bomb(mark)}, copy / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"safetensors"):
        hub(path=str(copy))
    with pytest.raises(ModelError, match=r"safetensors"):
        start_from(tiny(), copy)
    assert not mark.exists()


def test_an_attention_that_is_a_kernel_of_somebody_is_refused(copy):
    changed(copy / "config.json", attn_implementation="somebody/kernel")
    with pytest.raises(ModelError, match=r"asks for the attention 'somebody/kernel'"):
        hub(path=str(copy))


@pytest.fixture
def adapter(tmp_path):
    folder = tmp_path / "adapter"
    with_adapter(tiny().model, {"_target_": "peft.LoraConfig", "r": 2, "target_modules": ["q_proj"]}).save_pretrained(
        folder
    )
    return folder


def test_an_adapter_is_safetensors_and_names_no_module(adapter):
    safe_adapter(adapter)
    changed(adapter / "adapter_config.json", megatron_config={"a": 1}, megatron_core="somebody")
    with pytest.raises(ModelError, match="imports the module megatron_core"):
        start_from(tiny(), adapter)
    changed(adapter / "adapter_config.json", megatron_config=None)
    mark = adapter / "mark"
    (adapter / "adapter_model.safetensors").unlink()
    torch.save(Bomb(mark), adapter / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"adapter_model\.bin is a pickle"):
        start_from(tiny(), adapter)
    assert not mark.exists()
    assert "*.bin" in PICKLES


def test_an_adapter_of_a_configuration_is_one_of_peft(saved):
    for name in ("PeftModel", "nothing", "os"):
        with pytest.raises(ConfigError, match="no configuration of an adapter"):
            with_adapter(None, {"_target_": f"peft.{name}"})
    with pytest.raises(ModelError, match="megatron_core"):
        with_adapter(None, {"_target_": "peft.LoraConfig", "megatron_config": {"a": 1}})


def test_datasets_run_no_scripts_and_read_no_pickles(tmp_path):
    from rlpost.dataset.files import files
    from rlpost.dataset.hub import hub as dataset

    mark = tmp_path / "mark"
    place = tmp_path / "theirs"
    place.mkdir()
    (place / "theirs.py").write_text(f"open({str(mark)!r}, 'w').write('ran')\n")
    with pytest.raises(DataError, match="cannot be loaded"):
        dataset("train", path=str(place))
    (place / "theirs.py").unlink()
    (place / "train.pkl").write_bytes(pickle.dumps(Bomb(mark)))
    for attempt in (
        lambda: dataset("train", path=str(place)),
        lambda: files("train", path=str(place)),
        lambda: files("train", path=str(place / "train.pkl")),
    ):
        with pytest.raises(DataError):
            attempt()
    assert not mark.exists()


def test_a_medium_of_a_row_is_a_file_and_never_an_address():
    from rlpost.dataset.visual import BadRow, media_of
    from rlpost.media.worker import LOCAL

    for address in ("http://localhost/a.png", "file:///etc/hostname", "//localhost/a.png", "ftp://localhost/a.png"):
        with pytest.raises(BadRow, match=r"does not exist|an address on the network"):
            media_of({"image": address}, [], None)
    assert LOCAL == {"protocol_whitelist": "file"}


@pytest.mark.parametrize("file", ["rng_state.pth", "optimizer.pt", "scheduler.pt", "rlpost.pt"])
def test_a_pickle_in_a_checkpoint_is_not_run(tmp_path, file):
    """What a resumed run reads is read with `weights_only=True`, which refuses to call anything."""
    mark = tmp_path / "mark"
    torch.save(Bomb(mark), tmp_path / file)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / file, weights_only=True)
    assert not mark.exists()


def test_every_torch_load_is_of_weights_only():
    import transformers.trainer

    for source in [*SOURCE.rglob("*.py"), Path(transformers.trainer.__file__)]:
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                given = {k.arg: k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)}
                assert given.get("weights_only") is True, f"{source}:{node.lineno}"
