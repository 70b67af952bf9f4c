"""The server scorer against real servers on localhost: a small one with faults, and `transformers serve`."""

import importlib.util
import logging
import os
import pickle
import subprocess
import sys
import urllib.request

import pytest
import torch

from rlpost import ledger
from rlpost.errors import ConfigError, ModelError
from rlpost.models.scorer.local import Local
from rlpost.models.scorer.server import Server, _is_number, _reply
from rlpost.models.scorer.wire import _asked_wait
from rlpost.models.tiny import text
from rlpost.types import Task
from tests.models.openai_server import closed_port, greedy, serving, wait_until

PROMPTS = ["What is 2 + 3?", [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}], "x" * 70]


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("RLPOST_CACHE", str(tmp_path / "cache"))
    ledger.reset()
    yield
    ledger.reset()


@pytest.fixture
def tiny():
    with serving() as server:
        yield server


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The tiny model as `save_pretrained` writes it."""
    path, bundle = tmp_path_factory.mktemp("tiny"), text()
    bundle.model.generation_config.do_sample = True  # without it `transformers serve` is greedy at any temperature
    bundle.model.save_pretrained(path)
    bundle.encoder.tokenizer.save_pretrained(path)
    return str(path)


def made(server, **knobs):
    fast = {"timeout_s": 20.0, "retries": 3, "backoff_s": 0.01, "cache": False}
    return Server(**{"base_url": server.url, "model": "tiny", **fast, **knobs})


def expected(prompts, tokens=8):
    bundle = text()
    chats = [[{"role": "user", "content": p}] if isinstance(p, str) else p for p in prompts]
    return [greedy(bundle, bundle.encoder.prompt(Task("t", chat)), tokens) for chat in chats]


def test_replies_are_the_models_in_order(tiny):
    prompts = PROMPTS + [f"Say {i}" * (1 + i % 4) for i in range(20)]
    scorer = made(tiny, concurrency=4)
    assert scorer.judge(prompts, max_tokens=8) == expected(prompts)
    assert 1 < tiny.most_active <= 4
    stats = scorer.stats()
    assert stats["judge/items"] == stats["judge/misses"] == 23 and 0 < stats["judge/p50_s"] <= stats["judge/p99_s"]


def test_log_probabilities_equal_those_computed_here(tiny, folder):
    scorer, local = made(tiny, tokenizer=folder), Local(model=text, cache=False)
    answers = ["5", "Hello there", "no"]
    found, own = scorer.logp(PROMPTS, answers), local.logp(PROMPTS, answers)
    assert [len(row) for row in found] == [2, 12, 3]  # a token per byte, and the stop token
    for one, other in zip(found, own, strict=True):
        assert one == pytest.approx(other, abs=2e-5)
    choices = [["yes", "no"], ["a", "b", "c"], ["1", "2"]]
    for one, other in zip(scorer.choice_probs(PROMPTS, choices), local.choice_probs(PROMPTS, choices), strict=True):
        assert one == pytest.approx(other, abs=1e-4) and sum(one) == pytest.approx(1)


def test_embeddings_are_unit_vectors_in_order(tiny):
    texts = [f"text {i} " * (i + 1) for i in range(40)]  # two requests
    found = made(tiny).embed(texts)
    assert len(tiny.seen) == 2
    bundle = text()
    for row, one in zip(found, texts, strict=True):
        ids = torch.tensor([bundle.encoder.tokenizer(one)["input_ids"]])
        with torch.no_grad():
            mean = bundle.model.base_model(input_ids=ids).last_hidden_state[0].mean(0)
        assert torch.allclose(row, mean / mean.norm(), atol=1e-5)


def test_what_a_server_does_not_have_is_said(tiny, folder):
    with pytest.raises(ConfigError, match=r"no hidden states \(hidden\)"):
        made(tiny).hidden(["a"], ["b"])
    with pytest.raises(ConfigError, match=r"no scores of a reward head \(scalar\)"):
        made(tiny).scalar(["a"], ["b"])
    with pytest.raises(ConfigError, match="needs `tokenizer`"):
        made(tiny).logp(["a"], ["b"])
    tiny.echo = False
    with pytest.raises(ConfigError, match="does not return the log-probabilities of its prompt"):
        made(tiny, tokenizer=folder).logp(["a"], ["b"])


# --- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "faults",
    [["429"], ["500", "503", "502"], ["garbage"], ["shape"], ["deep"], ["deep error"], ["cut"], ["408", "cut"]],
)
def test_passing_faults_are_tried_again(tiny, faults):
    tiny.faults = list(faults)
    scorer = made(tiny)
    assert scorer.judge(["Hi"], max_tokens=8) == expected(["Hi"])
    assert len(tiny.seen) == len(faults) + 1 and scorer.stats()["judge/faults"] == len(faults)


def test_numbers_above_all_floats_are_no_answer(tiny):
    tiny.faults = ["huge"]
    assert made(tiny).embed(["a"]).norm().item() == pytest.approx(1.0)
    assert not _is_number(10**400) and not _is_number(float("nan")) and _is_number(-3)


def test_half_a_character_becomes_a_question_mark():
    assert _reply({"choices": [{"message": {"content": "no \ud83d here"}}]}) == "no ? here"


@pytest.mark.parametrize("fault", ["hang", "drip"])
def test_a_hang_ends_at_the_time_limit(tiny, fault):
    tiny.faults = [fault]
    assert made(tiny, timeout_s=0.5).judge(["Hi"], max_tokens=8) == expected(["Hi"])
    tiny.faults = [fault]
    with pytest.raises(
        ModelError, match=r"gave no usable answer to chat/completions after one try: no answer within 0.5"
    ):
        made(tiny, timeout_s=0.5, retries=0).judge(["Hi"], max_tokens=8)


@pytest.mark.parametrize(
    ("fault", "why"),
    [("500", "status 500, fault 500"), ("garbage", "another form.*<html>busy"), ("cut", "the answer broke off")],
)
def test_a_fault_that_stays_is_one_sentence(tiny, fault, why):
    tiny.faults = [fault] * 3
    with pytest.raises(ModelError, match=f"after 3 tries: .*{why}"):
        made(tiny, retries=2).judge(["Hi"], max_tokens=8)
    assert len(tiny.seen) == 3


def test_a_prompt_that_alone_is_refused_has_no_reply_and_is_counted(tiny):
    tiny.refuse = "Say 2"
    prompts = [f"Say {i}" for i in range(4)]
    wanted = expected(prompts)
    wanted[2] = None
    scorer = Server(base_url=tiny.url, model="tiny", retries=0)
    assert scorer.judge(prompts, max_tokens=8) == wanted
    [row] = ledger.current().rows()
    assert (row["kind"], row["count"]) == ("fail", 1) and "the prompt was refused" in row["cause"]
    assert row["where"] == ["'Say 2'"]
    assert scorer.judge(["Say 2"], max_tokens=8) == [None], "others were answered, so the server is there"
    with pytest.raises(ModelError, match="the prompt was refused"):
        Server(base_url=tiny.url, model="tiny", retries=0).judge(["Say 2", "Say 2 more"], max_tokens=8)
    tiny.refuse = ""
    assert scorer.judge(prompts, max_tokens=8) == expected(prompts), "no reply is nothing to keep"


def test_a_refusal_of_embeddings_or_log_probabilities_raises(tiny, folder):
    tiny.refuse = "zzz"
    with pytest.raises(ModelError, match="the prompt was refused"):
        made(tiny).embed(["a"] * 32 + ["zzz"] + ["b", "c"])
    tiny.refuse = str(text().encoder.tokenizer("z")["input_ids"][0]) + ", "
    with pytest.raises(ModelError, match="the prompt was refused"):
        made(tiny, tokenizer=folder).logp(["a", "b"], ["aaa", "zzz"])


def test_no_server_is_one_sentence_after_the_tries():
    url = f"http://127.0.0.1:{closed_port()}/v1"
    scorer = Server(base_url=url, model="m", retries=2, backoff_s=0.01)
    with pytest.raises(
        ModelError, match=f"the server {url} cannot be reached after 3 tries .*; start it, or set"
    ) as found:
        scorer.judge([f"Say {i}" for i in range(50)])
    assert "\n" not in str(found.value)
    assert scorer.stats()["judge/faults"] < 50 * 3, "one finding is enough"


def test_what_every_request_would_get_stops_at_once(tiny):
    with pytest.raises(ModelError, match=r"refused chat/completions with status 404: Not Found"):
        made(tiny, base_url=tiny.url + "/v2").judge(["a"])
    assert len(tiny.seen) == 1


# --- the key ----------------------------------------------------------------------------------------------------------


def test_the_key_comes_from_the_environment_and_is_written_nowhere(monkeypatch, caplog, tmp_path):
    caplog.set_level(logging.DEBUG)
    with serving(key="very-secret-4711") as server:
        with pytest.raises(ConfigError, match=r"MY_KEY .*is not set"):
            made(server, api_key_env="MY_KEY").judge(["Hi"])
        monkeypatch.setenv("MY_KEY", "very-secret-4711\n")  # as `$(cat file)` and secret stores leave it
        scorer = made(server, api_key_env="MY_KEY", cache=True)
        assert scorer.judge(["Hi"], max_tokens=4) == expected(["Hi"], 4)
        monkeypatch.setenv("MY_KEY", "very-secret-0000")  # the server quotes it in its refusal
        with pytest.raises(ModelError, match="status 401: wrong key") as found:
            scorer.judge(["other"])
        monkeypatch.setenv("MY_KEY", "two very-secret words")
        with pytest.raises(ConfigError, match="holds no key") as broken:
            scorer.judge(["other"])
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    del scorer.meter, scorer.wire.meter  # locks cannot be pickled
    for place in (caplog.text, str(found.value), str(broken.value), scorer.identity, repr(pickle.dumps(scorer))):
        assert "very-secret" not in place
    assert b"chat" not in written and b"very-secret" not in written and len(written) > 0


@pytest.mark.parametrize(
    ("knobs", "why"),
    [
        ({"base_url": "localhost:8000"}, "is no address"),
        ({"base_url": "https://me:pw@host/v1"}, r"https://\*\*\*@host/v1 holds credentials"),
        ({"base_url": "http://h/v1", "concurrency": 0}, "concurrency of 1"),
        ({"base_url": "http://h/v1", "timeout_s": 0}, "timeout_s above 0"),
    ],
)
def test_settings_that_cannot_work(knobs, why):
    with pytest.raises(ConfigError, match=why):
        Server(model="m", **knobs)


def test_extra_fields_are_laid_over_the_request(tiny):
    made(tiny, extra={"temperature": 0, "seed": 3, "top_p": None, "model": "other"}).judge(
        ["a"], max_tokens=3, temperature=1.0
    )
    body = tiny.seen[0]["body"]
    assert (body["temperature"], body["seed"], body["model"], body["max_tokens"]) == (0, 3, "other", 3)
    assert "top_p" not in body
    tiny.refuse = "max_tokens"
    with pytest.raises(ModelError, match="refused"):
        made(tiny).judge(["a"])


def test_retry_after():
    assert [_asked_wait(v) for v in (None, "", "2.5", "-1", "soon")] == [0, 0, 2.5, 0, 0]
    assert _asked_wait("Fri, 01 Jan 2100 00:00:00 GMT") > 1e9 and _asked_wait("Fri, 01 Jan 2010 00:00:00 GMT") == 0


# --- transformers serve -----------------------------------------------------------------------------------------------

SERVING = all(importlib.util.find_spec(name) for name in ("fastapi", "uvicorn", "openai"))


@pytest.fixture(scope="module")
def served(folder, tmp_path_factory):
    port, log = closed_port(), tmp_path_factory.mktemp("serve") / "log"
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", folder, "--device", "cpu"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)], stdout=output, stderr=output, env=environment
        )
    try:
        assert wait_until(lambda: process.poll() is not None or _healthy(port), 240), log.read_text()[-2000:]
        assert process.poll() is None, log.read_text()[-2000:]
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _healthy(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not SERVING, reason="transformers serve needs fastapi, uvicorn and openai")
def test_transformers_serve(served, folder):
    scorer = Server(base_url=served, model=folder, tokenizer=folder, retries=0, cache=False)
    assert scorer.judge(PROMPTS, max_tokens=8) == expected(PROMPTS)
    first, again, other = (scorer.judge(["Hi"], max_tokens=40, temperature=1.0, seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    with pytest.raises(ModelError, match=r"status 404"):
        scorer.embed(["a"])
    with pytest.raises(ModelError, match="prompt must be a string"):
        scorer.logp(["a"], ["b"])
