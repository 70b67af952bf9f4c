"""Uploading: against a stand-in that takes everything, against one that refuses, offline, and without a login."""

import pytest
from huggingface_hub import HfApi, constants

from rlpost.errors import ConfigError, ModelError
from rlpost.export import push
from tests.export.hub import Hub

TOKEN = "hf_" + "S" * 30


@pytest.fixture
def hub(monkeypatch):
    found = Hub()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    kept = HfApi.__init__

    def init(self, **more):
        kept(self, **{**more, "endpoint": found.address})

    monkeypatch.setattr(HfApi, "__init__", init)
    yield found
    found.close()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "README.md").write_text("---\nlibrary_name: transformers\n---\n")
    return tmp_path


def test_the_folder_is_uploaded_as_it_is_into_a_private_repository(hub, folder):
    push.ready("me/model")
    assert push.push(folder, "me/model", "final") == f"{hub.address}/me/model/commit/c0ffee"
    assert hub.files == {file.name: file.read_bytes() for file in folder.iterdir()}
    assert hub.created["visibility"] == "private"
    assert {given for path, given in hub.calls if "/commit/" in path} == {f"Bearer {TOKEN}"}
    assert all(TOKEN.encode() not in content for content in hub.files.values())


def test_a_refusal_is_a_sentence_without_a_token(hub, folder):
    hub.refuse = 403
    with pytest.raises(ModelError, match=r"the hub did not take me/model: .*hf upload me/model") as caught:
        push.push(folder, "me/model", "final")
    assert "hf_" not in str(caught.value)
    assert len(list(folder.iterdir())) == 2


def test_what_cannot_work_is_refused_before_any_work(monkeypatch):
    with pytest.raises(ConfigError, match="--push a/b/c is no name on the hub"):
        push.ready("a/b/c")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="HF_HUB_OFFLINE is set"):
        push.ready("me/model")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(ConfigError, match="needs an account"):
        push.ready("me/model")
