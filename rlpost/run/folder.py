"""The run folder: configuration with origins, environment, metrics, rollouts, checkpoints, model, report, outcome."""

import contextlib
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from rlpost.errors import ConfigError, RlpostError
from rlpost.run import checkpoint, environment, files, lock, redact

if TYPE_CHECKING:
    from rlpost.config import Config


class RunFolder:
    """One run on disk. Only rank 0 writes; on other ranks every writing method does nothing."""

    def __init__(self, path: str | Path, cfg: "Config | None" = None):
        self.path = Path(path)
        self.cfg = cfg
        self.writes = int(os.environ.get("RANK", "0")) == 0
        self._start = time.monotonic()
        self.logged = 0  # records of this process
        # Saves what is safe where a run hangs, and says what: (place, phase) -> sentences. A trainer sets it.
        self.rescue: Callable[[Path, str], list[str]] | None = None
        self._lock: lock.Lock | None = None

    @classmethod
    def create(cls, cfg: "Config") -> "RunFolder":
        """A new folder at `run.dir`, or at `runs/<command>-<name>-<time>`; refuses one that already holds files."""
        folder = cls(_place(cfg), cfg)
        if not folder.writes:
            return folder
        if files.there(folder.path) and not folder.path.is_dir():
            raise ConfigError(f"run.dir={folder.path} is a file; choose a folder, such as run.dir={folder.path}-run.")
        _make(folder.path)
        folder._lock = lock.Lock.of(folder.path)
        if any(place.name != lock.NAME for place in folder.path.iterdir()):
            folder.release()
            raise ConfigError(
                f"The run folder {folder.path} exists and is not empty, and a run never overwrites another: "
                f"choose another run.dir, or continue it with resume={folder.path}."
            )
        _make(folder.checkpoints)
        folder.save_config(cfg)
        facts = {"verb": cfg.command, "picks": cfg.picks, **environment.describe(cfg.tree.get("seed"))}
        files.write_json(folder.path / "environment.json", facts)
        return folder

    @classmethod
    def open(cls, path: str | Path, cfg: "Config | None" = None) -> "RunFolder":
        """An existing folder, to read it, or with `cfg` to continue its run (`resume=<folder>`).

        Raises ConfigError where another process is writing the run that is to be continued.
        """
        folder = cls(path, cfg)
        if not folder.path.is_dir():
            raise ConfigError(f"There is no run folder at {folder.path}; resume and report want the folder of a run.")
        if not (folder.path / "config.yaml").is_file():
            raise ConfigError(f"{folder.path} is not a run folder: it has no config.yaml.")
        if folder.writes and cfg is not None:
            folder._lock = lock.Lock.of(folder.path)
        if folder.writes:
            for name in ("metrics.jsonl", "rollouts.jsonl"):
                _cut_partial_line(folder.path / name)
        elapsed = [record["time"] for record in folder.metrics() if record.get("time") is not None]
        folder._start -= max(elapsed, default=0.0)
        return folder

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints live (`step-000020/`)."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """Where the final model is saved."""
        return self.path / "model"

    def save_config(self, cfg: "Config") -> None:
        """`config.yaml`, each value with its origin as a comment, and `overrides.txt`; secrets are replaced by ***."""
        if not self.writes:
            return
        head = f"# rlpost {cfg.command}: every value with where it came from. Secrets are shown as {redact.HIDDEN}.\n"
        files.write(self.path / "config.yaml", head + annotated(redact.tree(cfg.tree), cfg.origin))
        overrides = "".join(redact.text(override) + "\n" for override in cfg.overrides)
        files.write(self.path / "overrides.txt", overrides)

    def settings(self) -> dict[str, str]:
        """The texts that `save_config` writes, by the name of the file."""
        found = [self.path / name for name in ("config.yaml", "overrides.txt")]
        return {place.name: place.read_text(encoding="utf-8") for place in found if place.is_file()}

    def restore(self, settings: Mapping[str, str]) -> None:
        """Write back what `settings` gave."""
        if self.writes:
            for name, text in settings.items():
                files.write(self.path / name, text)

    def note(self, **facts: Any) -> None:
        """Adds facts to `environment.json`, such as the fingerprint of the data or the number of parameters."""
        if self.writes:
            place = self.path / "environment.json"
            files.write_json(place, {**(files.read_json(place) or {}), **redact.tree(files.plain(facts))}, self.safe)

    def log(self, record: Mapping[str, Any]) -> None:
        """Appends one record to `metrics.jsonl`: step, phase (train by default), seconds since the start, metrics."""
        if self.writes:
            head = {"step": None, "phase": "train", "time": round(time.monotonic() - self._start, 3)}
            files.append_lines(self.path / "metrics.jsonl", [{**head, **record}], self.safe)
            self.logged += 1

    def rollouts(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Appends completions with their scores, rewards and advantages to `rollouts.jsonl`."""
        if self.writes:
            files.append_lines(self.path / "rollouts.jsonl", [dict(record) for record in records], self.safe)

    def metrics(self) -> list[dict]:
        """The records of `metrics.jsonl`."""
        return files.read_lines(self.path / "metrics.jsonl")

    def completions(self) -> list[dict]:
        """The records of `rollouts.jsonl`."""
        return files.read_lines(self.path / "rollouts.jsonl")

    def rewind(self, step: int) -> None:
        """Forgets records after `step`, and that of an end: a run that continues from a checkpoint logs them again."""
        if not self.writes:
            return
        for name in ("metrics.jsonl", "rollouts.jsonl"):
            records = files.read_lines(self.path / name)
            early = [record for record in records if record.get("step") is None or record["step"] <= step]
            kept = [record for record in early if "train_loss" not in record and record.get("phase") != "ledger"]
            if len(kept) < len(records):
                partial = self.path / (name + ".rewound")
                partial.unlink(missing_ok=True)
                files.append_lines(partial, kept, self.safe)
                partial.replace(self.path / name)

    def done(self, outcome: Mapping[str, Any] | BaseException) -> None:
        """Writes `done.json`: the result with status ok, or the error with status error or interrupted."""
        if not self.writes:
            return
        failed = isinstance(outcome, BaseException)
        record = _failure(outcome) if isinstance(outcome, BaseException) else {"status": "ok", **outcome}
        # Where a run ends because nothing can be written, this cannot be either; its own error is the one to tell.
        with contextlib.suppress(*[RlpostError] if failed else []):
            self.save_ledger()
            if _counted():
                self.log({"phase": "ledger", "entries": _counted()})
        with contextlib.suppress(*[RlpostError] if failed else []):
            files.write_json(self.path / "done.json", redact.tree(files.plain(record)), self.safe)

    def release(self) -> None:
        """Lets another process continue the run; the end of this process does it too."""
        if self._lock is not None:
            self._lock.release()
        self._lock = None

    def outcome(self) -> dict | None:
        """What `done.json` says, None while the run has not ended."""
        return files.read_json(self.path / "done.json")

    def report(self) -> Path:
        """Writes `report.html` from what the folder holds and returns its path."""
        from rlpost.run import report

        return report.write(self.path) if self.writes else self.path / "report.html"

    def safe(self) -> str:
        """One sentence on what a failed write leaves intact."""
        newest = checkpoint.newest(self.checkpoints)
        if newest is None:
            return f"Everything written before stays in {self.path}; there is no checkpoint yet."
        return f"The checkpoint {newest} and everything written before are safe; resume={self.path} continues from it."

    def save_ledger(self) -> None:
        """Writes `ledger.json` where something was counted."""
        rows = _counted()
        if rows and self.writes:
            files.write_json(self.path / "ledger.json", rows, self.safe)


def _counted() -> list[dict[str, Any]]:
    """The ledger's rows by cause."""
    ledger = sys.modules.get("rlpost.ledger")  # never imported: no row was ever dropped
    return ledger.current().rows() if ledger else []


def annotated(tree: Mapping[str, Any], origin: Mapping[str, str], prefix: str = "", depth: int = 0) -> str:
    """YAML of `tree` with `# origin` behind each leaf; origins by dotted path, a parent speaks for its leaves."""
    lines = []
    for key, value in tree.items():
        path = f"{prefix}{key}"
        head = "  " * depth + _flow(str(key)) + ":"
        if isinstance(value, Mapping) and value:
            lines += [head, annotated(value, origin, f"{path}.", depth + 1).rstrip("\n")]
        else:
            source = origin_of(path, origin)
            lines.append(f"{head} {_flow(value)}" + (f"  # {source}" if source else ""))
    return "\n".join(lines) + "\n"


def origin_of(path: str, origin: Mapping[str, str]) -> str:
    """Where the value at a dotted path came from; a value without its own entry has its parent's origin."""
    while path:
        if path in origin:
            return redact.text(" ".join(str(origin[path]).split()))
        path = path.rpartition(".")[0]
    return ""


def _flow(value: Any) -> str:
    dumped = yaml.safe_dump(
        files.plain(value), default_flow_style=True, width=10**9, allow_unicode=True, sort_keys=False
    )
    return dumped.removesuffix("\n").removesuffix("\n...")


def _place(cfg: "Config") -> Path:
    run = cfg.tree.get("run") or {}
    if run.get("dir"):
        return Path(run["dir"]).expanduser()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("A run of several processes needs a folder that all of them know: set run.dir=<folder>.")
    picked = [name for name in cfg.picks.get("recipe", []) if name and name != "null"]
    name = run.get("name") or "-".join(picked) or "run"
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    plain_name = re.sub(r"[^\w.+-]+", "-", str(name)).strip("-")
    first = Path("runs") / f"{cfg.command}-{plain_name}-{stamp}"
    return next(path for path in _numbered(first) if not path.exists())


def _numbered(path: Path) -> Iterable[Path]:
    yield path
    for number in range(2, 10_000):
        yield path.with_name(f"{path.name}-{number}")


def _make(path: Path) -> None:
    try:
        with files.disk(path):
            path.mkdir(parents=True, exist_ok=True)
    except (files.Unwritable, OSError) as fault:
        why = fault.why if isinstance(fault, files.Unwritable) else fault.strerror
        if why == files.FULL:
            raise
        raise ConfigError(f"The run folder {path} cannot be made ({why}): choose another run.dir.") from fault


def _failure(error: BaseException) -> dict[str, Any]:
    code = error.exit_code if isinstance(error, RlpostError) else 1
    interrupted = code == 130 or isinstance(error, KeyboardInterrupt)
    return {
        "status": "interrupted" if interrupted else "error",
        "kind": type(error).__name__,
        "message": str(error),
        "exit_code": 130 if interrupted else code,
    }


def _cut_partial_line(path: Path) -> None:
    """A crash may leave half a line at the end; the next append must not be glued to it."""
    if not path.exists():
        return
    content = path.read_bytes()
    if content and not content.endswith(b"\n"):
        with path.open("r+b") as stream:
            stream.truncate(content.rfind(b"\n") + 1)
