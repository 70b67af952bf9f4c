"""Real runs with planted secrets: no byte of the run folder holds one, whether the run ends well or not."""

import html
import json
import os
from pathlib import Path
from urllib.parse import quote

import pytest

from rlpost import execute, multirun
from rlpost.errors import ConfigError, RewardError
from rlpost.models.scorer.wire import Wire
from rlpost.run import files, redact
from rlpost.sweep import sweep_plan
from tests import forked

HERE = "tests.trainers.test_secrets"
PLANTED = {
    "MY_HUB_TOKEN": "environment-token-1f9a",
    "AWS_SECRET_ACCESS_KEY": "quoted\"and\\escaped<&>'",
    "DATABASE_URL": "postgres://bob:p%40ssw0rd-x7@host/db",
    "PGPASSWORD": "grandmother",
}
TYPED = {"api_key": "typed-key-77aa", "url": "https://ann:typed-pass-31@host/x?token=query-token-55&q=1"}
SECRETS = [*(PLANTED[n] for n in ("MY_HUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD"))]
SECRETS += ["p%40ssw0rd-x7", "p@ssw0rd-x7", "typed-key-77aa", "typed-pass-31", "query-token-55"]


def leaky(completions, api_key, url, broken=False, log_extra=None, **columns):
    """A reward that shows every secret it can find, as careless code does."""
    seen = f"{api_key} {url} p@ssw0rd-x7 " + " ".join(os.environ[name] for name in PLANTED)
    print(seen)
    log_extra("seen", [seen] * len(completions))
    if broken:
        raise ValueError(f"401 for Authorization: Bearer {api_key}: {seen}")
    return [float(i % 2) for i in range(len(completions))]


def leaky_by_name(completions, **columns):
    """The same, for a sweep, which takes secrets from the environment only."""
    return leaky(completions, os.environ["MY_HUB_TOKEN"], os.environ["DATABASE_URL"], **columns)


@pytest.fixture
def overrides(monkeypatch, tmp_path):
    for name, value in PLANTED.items():
        monkeypatch.setenv(name, value)
    plain = ["model=tiny", "debug=smoke", "reward=[external]", f"reward.external.path={HERE}.leaky"]
    plain += [f"reward.external.kwargs.{key}='{value}'" for key, value in TYPED.items()]
    return [*plain, "evaluation.scores=[external]", f"run.dir={tmp_path / 'run'}"]


def leaks(folder: Path) -> list[str]:
    """Files that hold a secret in any form."""
    found = []
    for file in (path for path in folder.rglob("*") if path.is_file()):
        content = file.read_bytes()
        for secret in SECRETS:
            forms = {secret, json.dumps(secret)[1:-1], html.escape(secret), quote(secret, safe="")}
            found += [f"{file.name}: {form}" for form in forms if form.encode() in content]
    return found


def test_no_byte_of_a_run_folder_is_a_secret(overrides, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["rlpost", "grpo", *overrides])
    execute.execute("grpo", overrides)
    run = tmp_path / "run"
    names = {path.name for path in run.rglob("*") if path.is_file()}
    assert {
        "report.html",
        "rollouts.jsonl",
        "config.yaml",
        "done.json",
        "training_args.bin",
        "environment.json",
    } <= names
    assert leaks(run) == []
    (first, *_) = files.read_lines(run / "rollouts.jsonl")
    assert redact.HIDDEN in json.dumps(first)  # it was there, and is taken out
    with pytest.raises(ConfigError, match=r"reward\.external\.kwargs\.api_key.*held a secret.*give it again"):
        execute.resumed("grpo", [f"resume={run}"])
    given = [text for text in overrides if "kwargs" in text]
    assert execute.resumed("grpo", [*given, f"resume={run}"])[-3:] == [*given, f"resume={run}"]


def test_nor_where_the_run_fails(overrides, tmp_path, capsys):
    code = execute.exit_code(
        lambda: execute.execute("grpo", [*overrides, "reward.external.kwargs.broken=true"]), "grpo"
    )
    assert code == RewardError.exit_code
    assert json.loads((tmp_path / "run" / "done.json").read_text())["status"] == "error"
    assert leaks(tmp_path / "run") == []
    shown = capsys.readouterr().err
    assert "401 for Authorization" in shown and not any(secret in shown for secret in SECRETS)


def test_no_byte_of_the_folder_of_a_sweep_is_a_secret(tmp_path):
    """Two jobs in a process of their own; one of them fails with the secrets in its message."""
    line = [
        "grpo",
        "-m",
        "model=tiny",
        "debug=smoke",
        "reward=[external]",
        f"reward.external.path={HERE}.leaky_by_name",
    ]
    line += ["++reward.external.kwargs.broken=false,true", f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    done = forked.run(forked.SWEEPING, *line, env={**PLANTED, "PASSWORD": "p@ssw0rd-x7"})
    assert done.returncode == RewardError.exit_code, done.stderr
    jobs = [json.loads((tmp_path / "sweep" / job / "done.json").read_text())["status"] for job in "01"]
    assert jobs == ["ok", "error"]
    assert leaks(tmp_path / "sweep") == []
    assert not any(secret in done.stderr for secret in SECRETS)


def test_a_failed_job_of_a_sweep(overrides, tmp_path):
    job = tmp_path / "job"
    redact.learn(TYPED)
    multirun._leave(job, overrides, RuntimeError(" ".join([*TYPED.values(), *PLANTED.values()])))
    assert {path.name for path in job.iterdir()} == {"overrides.txt", "done.json"} and leaks(job) == []


def test_a_secret_is_not_swept_and_not_a_field_of_the_trainer(overrides):
    with pytest.raises(ConfigError, match="Hydra writes the overrides of a sweep"):
        sweep_plan("grpo", ["seed=1,2", "reward=[external]", f"reward.external.path={HERE}.leaky", overrides[4]])
    with pytest.raises(ConfigError, match="set HF_TOKEN in the environment"):
        execute.prepare("grpo", ["trainer.hub_token=hf_secret"])


def test_an_address_with_credentials_is_refused_and_not_repeated():
    with pytest.raises(ConfigError, match="holds credentials") as found:
        Wire(TYPED["url"], api_key_env=None, timeout_s=1, retries=0, backoff_s=0, concurrency=1, meter=None)
    assert "typed-pass-31" not in str(found.value) and "query-token-55" not in str(found.value)


@pytest.mark.parametrize(
    ("name", "value", "hidden"),
    [
        ("HF_TOKEN", "abcdef", True),
        ("OPENAI_APIKEY", "abcdef", True),
        ("TOKENIZERS_PARALLELISM", "falsely", False),
        ("MONKEY", "banana", False),
        ("SOME_TOKEN", "123456", False),  # a number would be taken out of every metric
        ("SOME_TOKEN", "abc", False),
        ("SSH_AUTH_SOCK", "/", False),
        ("HTTPS_PROXY", "http://ann:sesame@proxy:3128", True),
    ],
)
def test_which_variables_are_secrets(monkeypatch, name, value, hidden):
    monkeypatch.setenv(name, value)
    held = "sesame" if "sesame" in value else value
    assert (redact.values(f"x {held} y") == f"x {redact.HIDDEN} y") is hidden


def test_long_texts_are_read_in_linear_time():
    """A word of 60 000 letters took more than a minute where an expression began anew at each of them."""
    for word in ("d" * 20_000, "a." * 10_000, "&a-" * 6_000, "x=" * 10_000):
        assert redact.text(word) == word
        redact.learn({"run": {"dir": word}})
