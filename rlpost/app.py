"""The Typer application: verbs take Hydra overrides; the catalogue commands read recipes and source."""

from collections.abc import Callable
from pathlib import Path

import typer

from rlpost import __version__

VERBS = {
    "sft": "Train on demonstrations.",
    "grpo": "Train on rewards of sampled groups of completions.",
    "dpo": "Train on preference pairs.",
    "reward": "Train a reward model on preference pairs and report its accuracy.",
    "eval": "Evaluate: avg@k, pass@k and maj@k with bootstrap intervals.",
    "sample": "Generate and score completions without training.",
    "run": "Run a pipeline of stages, such as a cold start and then GRPO.",
}
HELP = {"help_option_names": ["--help", "-h"], "terminal_width": 100}

app = typer.Typer(
    name="rlpost",
    help="Post-training of language and vision-language models. Start with: rlpost recipes",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=HELP,
)


def complete(incomplete: str) -> list[str]:
    """Shell completion of overrides: axes, then the options of an axis."""
    from rlpost import catalogue

    roots = [catalogue.recipes_dir()]
    axis, equals, part = incomplete.partition("=")
    if not equals:
        return [f"{name}=" for name in catalogue.axes(roots) if name.startswith(axis)]
    return [f"{axis}={name}" for name in catalogue.options(axis, roots) if name.startswith(part)]


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"rlpost {__version__}")
        raise typer.Exit()


@app.callback()
def root(
    version: bool = typer.Option(
        False, "--version", "-V", callback=_print_version, is_eager=True, help="Show the version."
    ),
) -> None:
    """Post-training of language and vision-language models. Start with: rlpost recipes"""


def _verb(command: str) -> Callable[..., None]:
    def verb(
        overrides: list[str] = typer.Argument(
            None,
            metavar="[KEY=VALUE]...",
            help="Picks and values: recipe=gspo model=tiny trainer.max_steps=10",
            autocompletion=complete,
        ),
        cfg: str = typer.Option(None, "--cfg", metavar="job|origin", help="Print the configuration and stop."),
        info: str = typer.Option(None, "--info", metavar="defaults", help="Print what is picked and stop."),
        resolve: bool = typer.Option(False, "--resolve", help="With --cfg (values are always resolved)."),
        multirun: bool = typer.Option(False, "--multirun", "-m", help="Run all combinations of a=1,2 b=x,y."),
        config_dir: Path = typer.Option(None, "--config-dir", help="A folder with options and recipes of your own."),
        verify: int = typer.Option(
            None,
            "--verify-resume",
            metavar="K",
            help="Prove that a run killed after K of 2K steps resumes bit for bit.",
        ),
    ) -> None:
        from rlpost.execute import exit_code

        given = list(overrides or [])
        work = (lambda: _verify(command, given, verify, config_dir)) if verify is not None else None
        raise typer.Exit(exit_code(work or (lambda: _do(command, given, cfg or info, multirun, config_dir)), command))

    return verb


def _do(command: str, given: list[str], shown: str | None, multirun: bool, folder: Path | None) -> None:
    from rlpost import config
    from rlpost.execute import execute, resumed, show

    given = _searching(given, folder)
    if shown:
        cfg = config.compose(command, resumed(command, given))
        print(show(cfg, shown))
        config.check(cfg)
    elif multirun:
        from rlpost.multirun import sweep

        sweep(command, given)
    else:
        execute(command, given)


def _verify(command: str, given: list[str], steps: int, folder: Path | None) -> None:
    from rlpost.verify_resume import verify

    equal = verify(command, _searching(given, folder), steps, lambda line: print(line, flush=True))
    print("equal bit for bit: " + ", ".join(f"{count} {kind}" for kind, count in equal.items()))


for _name, _text in VERBS.items():
    app.command(_name, help=_text, context_settings=HELP)(_verb(_name))


@app.command(
    "plan",
    help="Say what a run would be and need, before any weight is loaded.",
    epilog="Example: rlpost plan grpo recipe=video_r1 --memory 80",
    context_settings=HELP,
)
def plan_(
    command: str = typer.Argument(..., help="The command to plan: grpo, sft, dpo, reward or run."),
    overrides: list[str] = typer.Argument(
        None,
        metavar="[KEY=VALUE]...",
        help="Picks and values, as the command takes them.",
        autocompletion=complete,
    ),
    probe: bool = typer.Option(False, "--probe", help="Load the weights and time real steps on the longest samples."),
    everything: bool = typer.Option(False, "--all", help="Show every value, not only those that are no default."),
    samples: int = typer.Option(64, "--samples", help="Tasks of the dataset to look at."),
    memory: float = typer.Option(None, "--memory", metavar="GIB", help="Plan for a GPU with so much memory."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
    config_dir: Path = typer.Option(None, "--config-dir", help="A folder with options and recipes of your own."),
) -> None:
    from rlpost.execute import exit_code
    from rlpost.plan.command import Options, plan

    given = _searching(list(overrides or []), config_dir)
    options = Options(probe, as_json, everything, samples, memory)
    raise typer.Exit(exit_code(lambda: plan(command, given, options), f"plan {command}"))


@app.command(
    "reward-test",
    help="Test a reward stack: scores, rank flips, latency, hacks.",
    epilog="Example: rlpost reward-test 'reward=[correct,format]' --against 'reward=[correct]' --run runs/mine",
    context_settings=HELP,
)
def reward_test_(
    overrides: list[str] = typer.Argument(
        None,
        metavar="[KEY=VALUE]...",
        help="Picks and values, as `rlpost grpo` takes them.",
        autocompletion=complete,
    ),
    run: Path = typer.Option(None, "--run", metavar="RUN", help="Score the completions of this run folder."),
    rows: Path = typer.Option(None, "--rows", metavar="FILE", help="Score the rows of this file: prompt, completion."),
    against: list[str] = typer.Option(
        None, "--against", metavar="KEY=VALUE", help="What a second stack has otherwise; may be given several times."
    ),
    samples: int = typer.Option(16, "--samples", help="Rows of the dataset to make probes of."),
    limit: int = typer.Option(None, "--limit", metavar="N", help="Groups of --run or --rows, spread evenly."),
    worst: int = typer.Option(5, "--worst", metavar="N", help="Rank flips to show."),
    tolerance: float = typer.Option(
        0.1, "--tolerance", help="A probe is a hole above gold less this share of gold minus wrong."
    ),
    out: Path = typer.Option(None, "--out", metavar="FOLDER", help="Write a page, JSON and the scores there."),
    fail_on_hack: bool = typer.Option(True, "--fail-on-hack/--no-fail-on-hack", help="Exit 9 where a hole is found."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
    config_dir: Path = typer.Option(None, "--config-dir", help="A folder with options and recipes of your own."),
) -> None:
    from rlpost.execute import exit_code

    def work() -> None:
        from rlpost.workbench import command

        options = command.Options(
            run, rows, tuple(against or ()), samples, limit, tolerance, worst, out, as_json, fail_on_hack
        )
        command.run(_searching(list(overrides or []), config_dir), options)

    raise typer.Exit(exit_code(work, "reward-test"))


def _searching(given: list[str], folder: Path | None) -> list[str]:
    from rlpost import allow

    given = allow.typed(given)
    return given if folder is None else [*given, f"hydra.searchpath=['file://{folder.expanduser().absolute()}']"]


@app.command(
    "recipes",
    help="List the recipes, or the options of an axis.",
    epilog="Example: rlpost recipes video; rlpost recipes --axis objective",
    context_settings=HELP,
)
def recipes(
    text: str = typer.Argument(None, help="Show only what contains this text."),
    axis: str = typer.Option(None, "--axis", help="List the options of this axis, such as objective."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
    config_dir: Path = typer.Option(None, "--config-dir", help="A folder with options and recipes of your own."),
) -> None:
    from rlpost import explain
    from rlpost.execute import exit_code

    raise typer.Exit(exit_code(lambda: print(explain.listing(axis, text, as_json, config_dir), end=""), "recipes"))


@app.command(
    "explain",
    help="Explain a recipe or an option: equations, knobs, what it reads.",
    epilog="Example: rlpost explain gspo",
    context_settings=HELP,
)
def explain_(
    name: str = typer.Argument(..., help="A recipe or an option: gspo, objective=gspo, recipe=dapo."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
    config_dir: Path = typer.Option(None, "--config-dir", help="A folder with options and recipes of your own."),
) -> None:
    from rlpost import explain
    from rlpost.execute import exit_code

    raise typer.Exit(exit_code(lambda: print(explain.explain(name, as_json, config_dir), end=""), "explain"))


@app.command("report", help="Write report.html of a run folder again.", context_settings=HELP)
def report_(folder: Path = typer.Argument(..., help="The folder of a run.")) -> None:
    from rlpost.execute import exit_code

    raise typer.Exit(exit_code(lambda: _report(folder), "report"))


def _report(folder: Path) -> None:
    from rlpost.run.folder import RunFolder

    print(RunFolder.open(folder).report())


@app.command(
    "compare",
    help="Compare runs: paired intervals, what differs, curves over tokens.",
    epilog="Example: rlpost compare runs/grpo-1 runs/grpo-2 runs/dapo-1 runs/dapo-2 --by seed --k 1,4",
    context_settings=HELP,
)
def compare_(
    runs: list[Path] = typer.Argument(..., metavar="RUN", help="Run folders; the first is the baseline."),
    at: str = typer.Option(None, "--at", metavar="before|after|eval", help="Which measurement of the runs."),
    k: str = typer.Option("", "--k", metavar="1,4", help="Completions of avg@k and pass@k (default: 1 and all)."),
    score: str = typer.Option(None, "--score", help="The reward that counts (default: what the runs counted)."),
    threshold: float = typer.Option(None, "--threshold", help="From which score on a completion is right."),
    by: str = typer.Option("", "--by", metavar="KEY,KEY", help="Runs that differ in these keys only are one arm: seed"),
    unpaired: bool = typer.Option(False, "--unpaired", help="Compare means over different tasks."),
    out: Path = typer.Option(Path("compare.html"), "--out", help="The page that is written."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    from rlpost.compare import command
    from rlpost.execute import exit_code

    raise typer.Exit(
        exit_code(
            lambda: command.run(
                runs,
                at=at,
                ks=_counts(k),
                score=score,
                threshold=threshold,
                by=[key for key in by.split(",") if key],
                unpaired=unpaired,
                out=out,
                as_json=as_json,
            ),
            "compare",
        )
    )


def _counts(text: str) -> list[int]:
    from rlpost.errors import ConfigError

    try:
        return [int(part) for part in text.split(",") if part]
    except ValueError as fault:
        raise ConfigError(f"--k {text} must be whole numbers, such as --k 1,4") from fault


@app.command(
    "export",
    help="Write a trained model as a transformers folder, and prove it.",
    epilog="Example: rlpost export runs/mine --to merged --verify",
    context_settings=HELP,
)
def export_(
    run: Path = typer.Argument(..., metavar="RUN", help="The folder of a run."),
    to: str = typer.Option(
        "hf", "--to", metavar="hf|merged", help="hf: what was trained; merged: adapters in their base."
    ),
    out: Path = typer.Option(None, "--out", metavar="DIR", help="Where to (default: RUN/export-hf or -merged)."),
    checkpoint: str = typer.Option(
        None, "--checkpoint", metavar="STEP", help="A checkpoint instead of the final model."
    ),
    dtype: str = typer.Option(None, "--dtype", metavar="float32|bfloat16|float16", help="Of merged weights."),
    verify: bool = typer.Option(False, "--verify", help="Prove that it is the model that was trained; exit 8 if not."),
    push: str = typer.Option(None, "--push", metavar="REPO", help="Upload it to the hub, as a private repository."),
) -> None:
    from rlpost.execute import exit_code

    def work() -> None:
        from rlpost.export.source import opened

        opened(run)  # a wrong folder is told before torch is imported
        from rlpost.export import command

        command.run(run, to=to, out=out, checkpoint=checkpoint, dtype=dtype, repo=push, check=verify)

    raise typer.Exit(exit_code(work, "export"))
