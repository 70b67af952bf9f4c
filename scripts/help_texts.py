"""Write rlpost/help/<command>.txt: what Typer prints for --help, so that help costs no import."""

from pathlib import Path

from typer.testing import CliRunner

from rlpost.app import app

FOLDER = Path(__file__).resolve().parent.parent / "rlpost" / "help"
ROOT = "_root"


def texts() -> dict[str, str]:
    """Help by command; `_root` is the application's own."""
    names = [command.name for command in app.registered_commands if command.name]
    return {ROOT: _help([]), **{name: _help([name]) for name in names}}


def written() -> dict[str, str]:
    """The texts that are there."""
    return {path.stem: path.read_text(encoding="utf-8").rstrip("\n") for path in FOLDER.glob("*.txt")}


def _help(words: list[str]) -> str:
    result = CliRunner().invoke(app, [*words, "--help"], prog_name="rlpost", color=False)
    return result.output.rstrip("\n")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.glob("*.txt"):
        path.unlink()
    for name, text in texts().items():
        (FOLDER / f"{name}.txt").write_text(text + "\n", encoding="utf-8")
