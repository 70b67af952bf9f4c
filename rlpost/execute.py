"""One run from its overrides: compose, check, relaunch under a launcher, run folder, trainer, outcome."""

import errno
import importlib
import json
import logging
import os
import pickle
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlpost import allow, config, launch
from rlpost.checks import places
from rlpost.config import COMMAND_LINE, Config
from rlpost.errors import ConfigError, Interrupted, ModelError, OutOfMemory, RlpostError
from rlpost.run import redact

if TYPE_CHECKING:
    from rlpost.run.folder import RunFolder

MODULES = {"eval": "rlpost.trainers.evaluate", "run": "rlpost.pipeline"}
MEMORY = "allocate memory", "out of memory"


def execute(command: str, overrides: list[str]) -> dict[str, Any]:
    """Run a verb; its result, or what went wrong before it is raised, is also in `done.json`."""
    cfg = prepare(command, overrides)
    if launch.wanted(cfg):
        return launch.relaunch(cfg)
    return run_checked(cfg)


def prepare(command: str, overrides: list[str]) -> Config:
    """A checked configuration; with `resume=<folder>` that of the folder under the new overrides."""
    typed = allow.typed(overrides)
    cfg = config.compose(command, resumed(command, typed))
    for line in cfg.warnings if config.environment_rank() == 0 else []:
        print(f"note: {line}", file=sys.stderr)
    config.check(cfg)
    places.require(cfg.tree)
    if cfg.tree.get("resume"):
        _same_weights(cfg, typed)
    return cfg


def _same_weights(cfg: Config, typed: list[str]) -> None:
    """Raises ConfigError where a run is to go on with other weights or elsewhere: its folder would tell of neither."""
    folder = Path(cfg.tree["resume"])
    dirs = [text.partition("=")[2].strip("'\"") for text in typed if text.lstrip("+").startswith("run.dir=")]
    if dirs and Path(dirs[-1]).absolute() != folder.absolute():
        raise ConfigError(f"resume={folder} goes on in its own folder; leave run.dir={dirs[-1]} out")
    try:
        then = json.loads((folder / "environment.json").read_text(encoding="utf-8")).get("picks") or {}
    except (OSError, ValueError):
        return
    for axis in ("model", "peft"):
        was, now = then.get(axis), cfg.picks.get(axis)
        if was and now and was != now:
            raise ConfigError(
                f"resume={folder} has trained {axis}={','.join(was)} and cannot go on with {axis}={','.join(now)}: "
                f"leave {axis} out, or start a new run"
                + (f" from its weights, init={folder / 'model'}" if (folder / "model").is_dir() else "")
            )


def resumed(command: str, overrides: list[str]) -> list[str]:
    """The overrides of the run that `resume=<folder>` names, followed by the new ones."""
    names = [text.partition("=")[2] for text in overrides if text.lstrip("+").startswith("resume=")]
    folder = names[-1].strip("'\"") if names else "null"
    if folder in ("null", ""):
        return overrides
    place = Path(folder)
    if not (place / "overrides.txt").is_file():
        raise ConfigError(f"resume={folder} is no run folder: it has no overrides.txt")
    facts = place / "environment.json"
    try:
        verb = json.loads(facts.read_text(encoding="utf-8")).get("verb") if facts.is_file() else None
        old = [line for line in (place / "overrides.txt").read_text(encoding="utf-8").splitlines() if line.strip()]
    except (ValueError, AttributeError) as error:  # no JSON, or no text
        raise ConfigError(f"resume={folder}: environment.json or overrides.txt is damaged ({error})") from error
    if verb and verb != command:
        raise ConfigError(
            f"resume={folder} is a run of `rlpost {verb}`; continue it with: rlpost {verb} resume={folder}"
        )
    _all_known(old, overrides, folder)
    return [*(text for text in old if not text.lstrip("+").startswith(("resume=", "run.dir="))), *overrides]


def _all_known(old: list[str], new: list[str], folder: str) -> None:
    """Raises ConfigError for secrets that the run had, which are not in its folder, and that nobody gave again."""
    given = {text.lstrip("+").partition("=")[0] for text in new}
    lost = [text.lstrip("+").partition("=")[0] for text in old if redact.HIDDEN in text]
    missing = [key for key in lost if key not in given]
    if missing:
        raise ConfigError(
            f"resume={folder}: {', '.join(missing)} held a secret, which a run folder never does: give it again, "
            f"{missing[0]}=<value>"
        )


def run_checked(cfg: Config) -> dict[str, Any]:
    """Run a checked configuration in this process."""
    from rich.console import Console

    from rlpost import ledger
    from rlpost.run.folder import RunFolder
    from rlpost.run.tables import final
    from rlpost.run.watchdog import Watchdog

    # TRL still calls transformers by names that it renames.
    warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*", category=FutureWarning)
    _speak()
    ledger.reset()  # several jobs of a sweep share a process
    again = cfg.tree.get("resume")
    folder = RunFolder.open(again, cfg) if again else RunFolder.create(cfg)
    before = folder.settings() if again else {}
    if again:
        folder.save_config(cfg)
    rank = config.environment_rank()
    try:
        with Watchdog(cfg.tree.get("watchdog") or {}, folder, rank=rank):
            result = trainer_of(cfg.command)(cfg, folder) or {}
    except BaseException as error:
        told = readable(error, cfg, folder)
        if not folder.logged and not isinstance(told, Interrupted):  # it could not begin with the new values
            folder.restore(before)
        folder.done(told)
        _show_ledger(but=str(told))
        folder.release()
        if told is error:
            raise
        raise told from error
    folder.done(result)
    if folder.writes:
        report = folder.report() if (cfg.tree.get("run") or {}).get("report") else None
        Console().print(final(f"rlpost {cfg.command}", result))
        # Outside the table, which would break a long path over lines.
        print(f"  run folder  {folder.path}" + (f"\n  report      {report}" if report else ""), flush=True)
        _show_ledger()
        _show_findings(folder.metrics())
    folder.release()
    return result


def _speak() -> None:
    """Let rlpost's own log lines (a download, a cold start) reach the terminal of the first rank."""
    log = logging.getLogger("rlpost")
    if not log.handlers and config.environment_rank() == 0:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)


def _show_ledger(but: str = "") -> None:
    """What was dropped, cut or failed, by cause; nothing where the ledger was never needed, or `but` says it."""
    ledger = sys.modules.get("rlpost.ledger")
    lines = ledger.current().table() if ledger else ""
    if lines and lines not in but and config.environment_rank() == 0:
        print(f"not everything could be used:\n{lines}", flush=True)


def _show_findings(records: list[dict]) -> None:
    """What the metrics say about the signal, each with the keys to turn; nothing where there is nothing to say."""
    if not any("gradient_tokens" in record for record in records):
        return
    from rlpost.signals import diagnose

    for finding in diagnose(records):
        print(f"diagnosis: {finding.sentence} ({', '.join(finding.knobs)})", flush=True)


def trainer_of(command: str) -> Callable[[Config, Any], dict[str, Any]]:
    """The `run(cfg, folder)` of a verb's module."""
    return importlib.import_module(MODULES.get(command, f"rlpost.trainers.{command}")).run


def readable(error: BaseException, cfg: Config, folder: "RunFolder") -> BaseException:
    """A sentence for an interruption, a failed write and exhausted memory; any other error as it is."""
    from rlpost.run import files

    if isinstance(error, RlpostError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return Interrupted(f"interrupted; continue with: rlpost {cfg.command} resume={folder.path}{allow.again()}")
    if isinstance(error, pickle.UnpicklingError):
        return ModelError(
            f"a file of the checkpoint that {folder.path} goes on from holds more than numbers and was not read, since "
            "that can run code; remove that checkpoint, and resume= takes the one before"
        )
    named = getattr(error, "filename", None)
    told = files.unwritable(error, str(named or f"a file in {folder.path}"), folder.safe)
    if told is not None and (named is None or told.why == files.FULL or folder.path in Path(str(named)).parents):
        return told
    text = str(error).lower()
    if cfg.tree.get("resume") and isinstance(error, RuntimeError) and "loading state_dict" in text:
        return ModelError(
            f"the newest checkpoint in {folder.path} is of another model than this configuration's; resume it with the "
            f"values it had ({_short(' '.join(str(error).split()), 300)})"
        )
    memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if memory or (isinstance(error, RuntimeError) and any(words in text for words in MEMORY)):
        rows = (cfg.tree.get("trainer") or {}).get("per_device_train_batch_size")
        return OutOfMemory(
            f"out of memory with trainer.per_device_train_batch_size={rows}; make it smaller and raise "
            f"trainer.gradient_accumulation_steps by as much, shorten rollout.max_tokens, or use peft=lora "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        )
    return error


def exit_code(work: Callable[[], Any], command: str) -> int:
    """Do `work`; print an error the way a user can read it and return the documented exit code."""
    first = config.environment_rank() == 0
    try:
        work()
    except ConfigError as error:
        if first:
            print(redact.values(listed(error.faults, command)), file=sys.stderr)
        return error.exit_code
    except RlpostError as error:
        if first:
            print(redact.values(f"error: {error}"), file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return Interrupted.exit_code
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            print(f"error: {_short(str(error.filename), 200)} is too long for the name of a file", file=sys.stderr)
            return ConfigError.exit_code
        print(redact.values(traceback.format_exc()), file=sys.stderr, end="")
        return 1
    return 0


def listed(faults: list[str], command: str) -> str:
    """All faults of a configuration, one on a line."""
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    return "\n".join([f"{count} in `rlpost {command}`:", *(f"  {_short(fault, 1500)}" for fault in faults)])


def _short(text: str, most: int) -> str:
    """A text that somebody will read: the middle of a very long one is left out."""
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 3 :]}"


def show(cfg: Config, what: str) -> str:
    """`--cfg job`: the resolved YAML; `--cfg origin`: with where each value came from; `--info defaults`: the picks."""
    if what == "job":
        return config.to_yaml(cfg.tree).rstrip("\n")
    if what == "defaults":
        return "\n".join(f"{axis}: {', '.join(names)}" for axis, names in cfg.picks.items())
    if what == "origin":
        leaves = config.flatten(cfg.tree)
        return "\n".join(f"{key}: {value!r}  # {cfg.origin.get(key, COMMAND_LINE)}" for key, value in leaves.items())
    raise ConfigError(f"cannot show {what!r}; --cfg takes job or origin, --info takes defaults")
