"""Write rlpost/help.json: what Typer prints for --help, so that help costs no import."""

import json
from pathlib import Path

from typer.testing import CliRunner

from rlpost.app import app

PLACE = Path(__file__).resolve().parent.parent / "rlpost" / "help.json"


def texts() -> dict[str, str]:
    """Help by command; the empty name is the application's own."""
    names = [command.name for command in app.registered_commands if command.name]
    return {name: _help([name] if name else []) for name in ["", *names]}


def _help(words: list[str]) -> str:
    result = CliRunner().invoke(app, [*words, "--help"], prog_name="rlpost", color=False)
    return result.output.rstrip("\n")


if __name__ == "__main__":
    PLACE.write_text(json.dumps(texts(), indent=1) + "\n", encoding="utf-8")
