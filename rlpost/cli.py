"""The command line's door: help and version are answered at once, everything else goes to the Typer application.

What stands here is imported before every answer. `os` and `sys` are there when Python has started; `pathlib` or `json`
import `re`, which alone takes longer than all of this, so the texts of the help are plain files.
"""

import os
import sys

ENVIRONMENT = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DISABLE_TELEMETRY": "1",
    "TRL_EXPERIMENTAL_SILENCE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "HYDRA_FULL_ERROR": "0",
    # Threads that spin while they wait make a step ten times slower as soon as another process shares the cores.
    "OMP_WAIT_POLICY": "PASSIVE",
}


def main() -> None:
    """The entry point `rlpost`."""
    arguments = sys.argv[1:]
    if not any(name.startswith("_RLPOST_COMPLETE") for name in os.environ):
        text = quick(arguments)
        if text is not None:
            print(text)
            return
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if os.getcwd() not in sys.path:  # functions of the user's own, as under `python -m rlpost`; last, to shadow nothing
        sys.path.append(os.getcwd())
    from rlpost.app import app

    app(args=arguments, prog_name="rlpost")


def quick(arguments: list[str]) -> str | None:
    """The answer to a request for help or version, from a generated text: no import of Typer, Hydra or torch.

    None where Typer must answer: another request, or a command that has no text.
    """
    if arguments in (["--version"], ["-V"]):
        from rlpost import __version__

        return f"rlpost {__version__}"
    asks = not arguments or arguments[-1] in ("--help", "-h")
    words = [word for word in arguments if word not in ("--help", "-h")]
    if not asks or len(words) > 1 or not all(word.replace("-", "").isalpha() for word in words):
        return None
    name = words[0] if words else "_root"  # no command: a word of letters and hyphens
    try:
        with open(os.path.join(os.path.dirname(__file__), "help", f"{name}.txt"), encoding="utf-8") as file:
            return file.read().rstrip("\n")
    except FileNotFoundError:
        return None
