import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rlpost import cli, execute, launch
from rlpost.config import compose
from rlpost.errors import ConfigError, DataError, Interrupted, ModelError, OutOfMemory
from rlpost.run.folder import RunFolder
from scripts import help_texts

ROOT = Path(__file__).resolve().parent.parent
QUIET = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def rlpost(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **QUIET}
    line = [sys.executable, "-m", "rlpost", *words]
    return subprocess.run(line, capture_output=True, text=True, cwd=cwd, env=environment, check=False)


def test_help_text_is_typers_own():
    assert help_texts.written() == help_texts.texts(), "run scripts/help_texts.py"


def imported(code: str, *words: str) -> tuple[subprocess.CompletedProcess[str], set[str]]:
    """What a fresh interpreter prints, and the modules that it has imported since it started.

    Without `site`, so that nothing of the environment's own has been imported before. `os` and `sys` are what `site`
    imports in every start of Python.
    """
    line = f"import os, sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv = ['rlpost', *sys.argv[1:]]; "
    line += f"old = set(sys.modules)\n{code}\nprint(*sorted(set(sys.modules) - old), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-S", "-c", line, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done, set(done.stderr.split())


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["grpo", "--help"], ["explain", "-h"], ["--version"]])
def test_help_imports_two_modules_of_our_own_and_no_other(words):
    done, modules = imported("from rlpost.cli import main; main()", *words)
    assert modules == {"rlpost", "rlpost.cli"}
    assert done.stdout.startswith("rlpost 0" if "--version" in words else "Usage: rlpost")


def test_help_of_a_command_is_the_commands_own():
    done, _ = imported("from rlpost.cli import main; main()", "grpo", "--help")
    assert done.stdout == help_texts.texts()["grpo"] + "\n"


def test_quick_leaves_the_rest_to_typer():
    assert cli.quick(["grpo", "seed=1", "--help"]) is None
    assert cli.quick(["grpo"]) is None
    for word in ("gpro", "rlpost", "_root", "../help/grpo", ""):
        assert cli.quick([word, "--help"]) is None


COMMANDS = ["sft", "grpo", "dpo", "reward", "eval", "sample", "run"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_configuration_error_is_shown_before_torch_is_imported(command):
    code = (
        "import sys; sys.argv = ['rlpost', *sys.argv[1:]]; from rlpost.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: code = end.code\n"
        "heavy = {'torch', 'transformers', 'trl', 'datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "sys.exit(code)"
    )
    line = [sys.executable, "-c", code, command, "sed=3"]
    done = subprocess.run(line, capture_output=True, text=True, env={**os.environ, **QUIET}, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"1 fault in `rlpost {command}`:\n  unknown key 'sed'")


def test_cfg_job_prints_yaml_that_composes():
    done = rlpost("grpo", "recipe=gspo", "seed=4", "--cfg", "job", "--resolve")
    assert done.returncode == 0, done.stderr
    tree = yaml.safe_load(done.stdout)
    assert tree["seed"] == 4
    assert tree["objective"]["_target_"] == "rlpost.objective.clipped.gspo"
    assert "aggregate: row_mean" in rlpost("grpo", "--info", "defaults").stdout
    assert "seed: 4  # command line" in rlpost("grpo", "seed=4", "--cfg", "origin").stdout


def test_faults_are_listed_and_exit_2(tmp_path):
    done = rlpost("grpo", "sed=3", "objective=ppo_clp", "trainer.beta=1", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert lines[0] == "3 faults in `rlpost grpo`:"
    assert len(lines) == 4
    assert list(tmp_path.iterdir()) == []


def test_unknown_command_is_exit_2_with_a_hint():
    done = rlpost("gpro")
    assert done.returncode == 2
    assert "grpo" in done.stderr


def test_clash_of_recipes_is_a_note():
    done = rlpost("grpo", "recipe=[gspo,cispo]", "seed=a")
    assert "note: recipes gspo and cispo both pick objective: cispo's cispo is used, not gspo" in done.stderr


def test_config_dir(tmp_path):
    (tmp_path / "objective").mkdir()
    option = tmp_path / "objective" / "mine.yaml"
    option.write_text(
        "_target_: rlpost.objective.clipped.ppo_clip\nclip_low: 0.11\nclip_high: 0.13\n", encoding="utf-8"
    )
    done = rlpost("grpo", "objective=mine", "--config-dir", str(tmp_path), "--cfg", "job")
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout)["objective"]["clip_high"] == 0.13
    assert "mine" in rlpost("recipes", "--axis", "objective", "--config-dir", str(tmp_path)).stdout


def test_functions_of_the_current_folder_are_found(tmp_path):
    """The console script, unlike `python -m`, does not search the current folder by itself."""
    (tmp_path / "my_rewards.py").write_text("def fixed(rollouts):\n    return [1.0] * len(rollouts)\n")
    code = "import sys; sys.path = [p for p in sys.path if p]; from rlpost.cli import main; main()"
    words = ["grpo", "allow_targets=[my_rewards]", "reward.mine._target_=my_rewards.fixed", "--cfg", "job"]
    line = [sys.executable, "-c", code, *words]
    done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, **QUIET}, check=False)
    assert done.returncode == 0, done.stderr
    line[-3] += "2"
    bad = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, **QUIET}, check=False)
    assert "my_rewards has no 'fixed2'" in bad.stderr


@pytest.mark.parametrize(
    "words", [["explain", "gsppo"], ["recipes", "--axis", "objektive"], ["report", "/does/not/exist"]]
)
def test_catalogue_faults_exit_2(words):
    done = rlpost(*words)
    assert done.returncode == 2
    assert done.stderr.startswith("1 fault")


def fail_with(error: BaseException):
    def work():
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError(["a", "b"]), 2),
        (DataError("no rows"), 3),
        (OutOfMemory("too much"), 6),
        (Interrupted("stopped"), 130),
        (KeyboardInterrupt(), 130),
        (ValueError("a bug"), 1),
    ],
)
def test_exit_codes(error, code, capsys):
    assert execute.exit_code(fail_with(error), "grpo") == code
    shown = capsys.readouterr().err
    assert ("Traceback" in shown) is (code == 1)


def test_only_the_first_rank_speaks(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    assert execute.exit_code(fail_with(ConfigError("a")), "grpo") == 2
    assert capsys.readouterr().err == ""


def full(cfg, folder):
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")


def stopped(cfg, folder):
    raise KeyboardInterrupt


def works(cfg, folder):
    return {"objective": 0.25}


@pytest.mark.parametrize(("run", "code", "words"), [(full, 6, "out of memory"), (stopped, 130, "resume=")])
def test_failures_are_sentences_and_in_done_json(run, code, words, tmp_path, monkeypatch):
    monkeypatch.setattr(execute, "trainer_of", lambda command: run)
    with pytest.raises((OutOfMemory, Interrupted), match=words):
        execute.execute("grpo", [f"run.dir={tmp_path / 'r'}"])
    outcome = RunFolder.open(tmp_path / "r").outcome()
    assert outcome["exit_code"] == code
    assert words in outcome["message"]


def test_resume_takes_the_old_overrides_then_the_new(tmp_path, monkeypatch):
    monkeypatch.setattr(execute, "trainer_of", lambda command: works)
    place = tmp_path / "r"
    assert execute.execute("grpo", [f"run.dir={place}", "seed=7", "run.report=false"]) == {"objective": 0.25}
    execute.execute("grpo", [f"resume={place}", "trainer.max_steps=9"])
    cfg = execute.prepare("grpo", [f"resume={place}"])
    assert (cfg.tree["seed"], cfg.tree["trainer"]["max_steps"]) == (7, 9)
    assert cfg.tree["resume"] == str(place)
    with pytest.raises(ConfigError, match=f"resume={place} is a run of `rlpost grpo`"):
        execute.execute("sft", [f"resume={place}"])
    with pytest.raises(ConfigError, match="is no run folder"):
        execute.execute("grpo", [f"resume={tmp_path}"])


@pytest.mark.parametrize(
    ("words", "says"),
    [("model=tiny", "has trained model=smollm2"), ("peft=lora", "peft=none"), ("run.dir=y", "own folder")],
)
def test_resume_refuses_other_weights_and_leaves_the_folder_as_it_was(words, says, tmp_path, monkeypatch):
    monkeypatch.setattr(execute, "trainer_of", lambda command: works)
    place = tmp_path / "r"
    execute.execute("grpo", [f"run.dir={place}", "run.report=false"])
    before = (place / "overrides.txt").read_text()
    with pytest.raises(ConfigError, match=says):
        execute.execute("grpo", [f"resume={place}", words])
    assert (place / "overrides.txt").read_text() == before
    execute.execute("grpo", [f"resume={place}", f"run.dir={place}", "model=smollm2"])


def mismatched(cfg, folder):
    raise RuntimeError("Error(s) in loading state_dict for LlamaForCausalLM: size mismatch for model.norm.weight")


def test_a_resume_that_cannot_begin_leaves_the_values_of_the_run(tmp_path, monkeypatch):
    place = tmp_path / "r"
    monkeypatch.setattr(execute, "trainer_of", lambda command: works)
    execute.execute("sft", ["model=tiny", f"run.dir={place}", "run.report=false"])
    before = {path.name: path.read_text() for path in (place / "config.yaml", place / "overrides.txt")}
    monkeypatch.setattr(execute, "trainer_of", lambda command: mismatched)
    with pytest.raises(ModelError, match=r"is of another model than this configuration's.*size mismatch"):
        execute.execute("sft", [f"resume={place}", "model.hidden=64"])
    assert {name: (place / name).read_text() for name in before} == before

    monkeypatch.setattr(execute, "trainer_of", lambda command: stopped)
    with pytest.raises(Interrupted):
        execute.execute("sft", [f"resume={place}", "trainer.max_steps=8"])
    assert "trainer.max_steps=8" in (place / "overrides.txt").read_text(), "what was asked for is gone on with"
    with pytest.raises(RuntimeError, match="state_dict"):
        monkeypatch.setattr(execute, "trainer_of", lambda command: mismatched)
        execute.execute("sft", ["model=tiny", f"run.dir={tmp_path / 'new'}"])

    def steps_and_ends(cfg, folder):
        folder.log({"step": 1, "loss": 0.0})
        raise RuntimeError("later")

    monkeypatch.setattr(execute, "trainer_of", lambda command: steps_and_ends)
    with pytest.raises(RuntimeError, match="later"):
        execute.execute("sft", [f"resume={place}", "trainer.max_steps=9"])
    assert "trainer.max_steps=9" in (place / "overrides.txt").read_text()


def test_a_run_folder_that_exists_is_refused(tmp_path):
    (tmp_path / "x").write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match="exists and is not empty"):
        execute.execute("grpo", [f"run.dir={tmp_path}"])


def test_relaunch_only_outside_of_ranks(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert launch.wanted(compose("grpo", ["launch=torchrun"]))
    assert not launch.wanted(compose("grpo"))
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert not launch.wanted(compose("grpo", ["launch=torchrun"]))


@pytest.mark.parametrize(
    ("option", "part"),
    [("torchrun", "torch.distributed.run"), ("accelerate_zero3", "zero3.yaml"), ("accelerate_fsdp", "fsdp.yaml")],
)
def test_relaunch_command_and_outcome(option, part, tmp_path, monkeypatch):
    seen = []

    def fake(line, check):
        seen.append(line)
        (tmp_path / "done.json").write_text(
            '{"status": "error", "message": "no rows", "exit_code": 3}', encoding="utf-8"
        )
        return subprocess.CompletedProcess(line, 1)

    monkeypatch.setattr(launch.subprocess, "run", fake)
    cfg = compose("grpo", [f"launch={option}", "launch.num_processes=3", f"run.dir={tmp_path}"])
    with pytest.raises(Exception, match="no rows") as caught:
        launch.relaunch(cfg)
    assert caught.value.exit_code == 3
    line = " ".join(seen[0])
    assert part in line
    assert "-m rlpost grpo" in line
    assert " 3 " in line
    assert f"run.dir='{tmp_path}'" in line


def test_completion_of_options():
    from rlpost.app import complete

    assert "recipe=gspo" in complete("recipe=gs")
    assert "objective=" in complete("obj")
