"""Broken configurations, made by kind from a seed: what is wrong is known, so the right exit code is too."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from rlpost import catalogue
from rlpost.config import compose, flatten
from tests.fuzz.texts import FLAGS, FOLDERS, GRAMMAR, OUT_OF_RANGE, RECIPES, STAGES, SWEEPS, YAML

VERBS = ("sft", "grpo", "dpo", "reward", "eval", "sample")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
TEXTS = ("10 minutes", "5GB", "1h", "2k", "50%", "ten", "1e", "0x1F", "1_000 tokens", "ünf", "'\"'", "3 s")


@dataclass(frozen=True)
class Case:
    """The words behind `rlpost`, the exit code, and files that lie in the folder where it runs."""

    kind: str
    words: list[str]
    code: int = 2
    files: Mapping[str, str | bytes] = field(default_factory=dict)


@cache
def tree(command: str) -> dict[str, Any]:
    """The leaves of a command's default configuration."""
    return flatten(compose(command).tree)


def misspelt(rng: random.Random, word: str, legal: Any) -> str:
    """One letter of a word changed, doubled, dropped or swapped, so that no legal word results."""
    while True:
        at = rng.randrange(len(word))
        changed = rng.choice(
            [
                word[:at] + rng.choice(LETTERS) + word[at + 1 :],
                word[:at] + word[at] + word[at:],
                word[:at] + word[at + 1 :],
                word[:at] + word[at + 1 : at + 2] + word[at] + word[at + 2 :],
            ]
        )
        if changed and changed not in legal and changed.strip("_").isidentifier():
            return changed


def quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def axis_name(rng: random.Random) -> Case:
    verb = rng.choice(VERBS)
    axes = list(catalogue.command_axes(verb))
    legal = {*axes, *tree(verb), "schedules", "models", *catalogue.axes([catalogue.recipes_dir()])}
    axis = rng.choice([axis for axis in axes if axis != "aux"])
    return Case("axis misspelt", [verb, f"{misspelt(rng, axis, legal)}={rng.choice(LETTERS) * 3}"])


def option_name(rng: random.Random) -> Case:
    verb = rng.choice(VERBS)
    options = {axis: catalogue.options(axis, [catalogue.recipes_dir()]) for axis in catalogue.command_axes(verb)}
    axis = rng.choice([axis for axis in options if options[axis]])
    name = misspelt(rng, rng.choice(list(options[axis])).rpartition("/")[2], {*options[axis], "null"})
    many = axis in catalogue.MANY or axis == "recipe"
    return Case("option misspelt", [verb, f"{axis}=[{name}]" if many and rng.random() < 0.5 else f"{axis}={name}"])


def knob_name(rng: random.Random) -> Case:
    verb = rng.choice(VERBS)
    free = ("about", "schedules", "models")
    key = rng.choice([key for key in tree(verb) if "." in key and not key.endswith("_target_") and key not in free])
    parent, _, last = key.rpartition(".")
    legal = {leaf.rpartition(".")[2] for leaf in tree(verb)} | {"weight", "coef", "when", "aggregate", "time_limit"}
    return Case("key misspelt", [verb, f"{parent}.{misspelt(rng, last, legal)}=1"])


def wrong_type(rng: random.Random) -> Case:
    verb = rng.choice(VERBS)
    numbers = [key for key, value in tree(verb).items() if isinstance(value, int | float) and _typed(key)]
    key = rng.choice(numbers)
    value = rng.choice(["[1,2]", "{a: 1}", "[]", "{}", quoted(rng.choice(TEXTS)), quoted("x" * 3000), quoted("")])
    return Case("wrong type", [verb, f"{key}={value}"])


def _typed(key: str) -> bool:
    return not key.startswith(("about.", "kernels.prefix"))


def wrong_unit(rng: random.Random) -> Case:
    key = rng.choice(
        [
            "watchdog.reward",
            "watchdog.generate",
            "rollout.max_tokens",
            "trainer.max_minutes",
            "trainer.save_steps",
            "trainer.max_steps",
            "trainer.learning_rate",
            "evaluation.tasks",
            "reward.correct.time_limit",
            "ledger.drop",
            "trainer.warmup_steps",
        ]
    )
    return Case("wrong unit", ["grpo", f"{key}={quoted(rng.choice(TEXTS))}"])


def out_of_range(rng: random.Random) -> Case:
    return Case("out of range", ["grpo", rng.choice(OUT_OF_RANGE)])


def batch(rng: random.Random) -> Case:
    group = rng.randint(3, 9)
    rows = rng.choice([n for n in range(1, 40) if n % group])
    return Case("batch", ["grpo", f"rollout.num_generations={group}", f"trainer.per_device_train_batch_size={rows}"])


def owned(rng: random.Random) -> Case:
    words = "beta=0.1 loss_type=dapo temperature=1 output_dir=x report_to=wandb trust_remote_code=true hub_token=hf_x"
    return Case("decided elsewhere", ["grpo", f"trainer.{rng.choice(words.split())}"])


def missing_value(rng: random.Random) -> Case:
    words = rng.choice(
        [
            ["grpo", "dataset=files"],
            ["sft", "dataset=hub"],
            ["grpo", "model=hub"],
            ["grpo", "reward=[external]"],
            ["grpo", "reward=[]"],
            ["grpo", "reward=[judge_rubric]"],
            ["grpo", "reward=[judge_rubric]", "scorer@models.judge=server"],
            ["dpo", "model=null"],
            ["sft", "trainer=null"],
            ["grpo", "scorer@models.judge=serve"],
            ["grpo", "scorer@judge=server"],
            ["run", "pipeline=null"],
            ["grpo", "objective=null"],
            ["grpo", "rollout=null"],
            ["grpo", "built_from=[nowhere]"],
        ]
    )
    return Case("value missing", words)


def missing_data(rng: random.Random) -> Case:
    path = rng.choice(["nowhere.jsonl", "./no/where.csv", "/does/not/exist.parquet", "~/no such file.json", "no.such"])
    verb = rng.choice(["grpo", "sft", "dpo", "reward", "eval", "sample"])
    more = [f"dataset.test_path={quoted(path)}"] if rng.random() < 0.3 else []
    here = {"there.jsonl": '{"prompt": "a", "answer": "b"}\n'}
    first = "there.jsonl" if more else quoted(path)
    plan = ["plan"] if verb in ("grpo", "sft", "dpo", "reward") and rng.random() < 0.2 else []
    return Case("data missing", [*plan, verb, "dataset=files", f"dataset.path={first}", *more], 3, here)


def missing_model(rng: random.Random) -> Case:
    verb = rng.choice(VERBS)
    words = rng.choice(
        [
            ["model=hub", "model.path=./nowhere"],
            ["model=hub", "model.path=/does/not/exist"],
            ["model=hub", "model.path=a/b/c"],
            ["model=hub", "model.path=there.jsonl"],
            ["model=hub", "model.path=empty"],
            ["init=nowhere/model"],
            ["init=there.jsonl"],
            ["init=empty"],
        ]
    )
    return Case("model missing", [verb, *words], 4, {"there.jsonl": "{}", "empty/note.txt": ""})


def yaml_of_an_option(rng: random.Random) -> Case:
    return Case(
        "option file broken",
        ["grpo", "objective=mine", "--config-dir", "mine"],
        files={"mine/objective/mine.yaml": rng.choice(YAML)},
    )


def yaml_of_a_recipe(rng: random.Random) -> Case:
    text = rng.choice(RECIPES)
    head = b"# @package _global_\n" if isinstance(text, bytes) else "# @package _global_\n"
    return Case(
        "recipe broken",
        ["grpo", "recipe=mine", "--config-dir", "mine"],
        files={"mine/recipe/mine.yaml": head + text},  # type: ignore[operator]
    )


def yaml_of_a_pipeline(rng: random.Random) -> Case:
    return Case(
        "pipeline broken",
        ["run", "pipeline=mine", "--config-dir", "mine"],
        files={"mine/pipeline/mine.yaml": rng.choice(STAGES)},
    )


def grammar(rng: random.Random) -> Case:
    verb = rng.choice(VERBS) if rng.random() < 0.1 else "grpo"
    word = rng.choice([w for w in GRAMMAR if verb in ("grpo",) or not w.startswith(("rollout", "reward", "objective"))])
    return Case("grammar", [verb, word])


def too_long(rng: random.Random) -> Case:
    size = rng.choice([300, 5000, 60000])
    words = [
        f"objective={'x' * size}",
        f"{'k' * size}=1",
        f"run.name={'n' * size}",
        f"run.dir={'d' * size}",
        f"resume={'r' * size}",
    ]
    words += [
        f"trainer.{'f' * size}=1",
        f"recipe=[{','.join(['a'] * (size // 2))}]",
        f"seed={'9' * size}",
        f"reward.{'a.' * 300}b=1",
    ]
    return Case("absurdly long", ["grpo", rng.choice(words)])


def sweep(rng: random.Random) -> Case:
    return Case("sweep", ["grpo", "-m", *rng.choice(SWEEPS)])


def usage(rng: random.Random) -> Case:
    return Case("usage", rng.choice(FLAGS), files=FOLDERS)


def foreign_target(rng: random.Random) -> Case:
    target = rng.choice(
        [
            "os.system",
            "subprocess.run",
            "builtins.eval",
            "rlpost.stack.subprocess.run",
            "rlpost.multirun.subprocess",
            "rlpost.launch.Path",
            "importlib.import_module",
            "somebody.fixed",
            "numpy.load",
            "rlpost.reward.math._worker",
            "rlpost.nothing.here",
            "pickle.loads",
        ]
    )
    key = rng.choice(
        [
            "objective._target_={}",
            "reward.mine._target_={}",
            "reward.mine={{_target_: {}, command: 'touch ran'}}",
            "dataset._target_={}",
            "model={{_target_: {}}}",
            "curriculum._target_={}",
            "objective.clip_high={{_target_: {}}}",
            "peft={{_target_: {}}}",
            "schedules.mu={{_target_: {}}}",
            "dataset={{_target_: rlpost.dataset.mix.mix, parts: {{a: {{_target_: {}}}}}}}",
        ]
    )
    return Case("target refused", ["grpo", key.format(target)])


KINDS: tuple[tuple[Callable[[random.Random], Case], int], ...] = (
    (axis_name, 6), (option_name, 7), (knob_name, 8), (wrong_type, 10), (wrong_unit, 6), (out_of_range, 8),
    (batch, 3), (owned, 2), (missing_value, 4), (missing_data, 5), (missing_model, 5), (yaml_of_an_option, 7),
    (yaml_of_a_recipe, 8), (yaml_of_a_pipeline, 4), (grammar, 12), (too_long, 3), (sweep, 4), (usage, 8),
    (foreign_target, 6),
)  # fmt: skip


def cases(count: int, seed: int) -> list[Case]:
    """`count` different cases; each kind has its share."""
    rng = random.Random(seed)
    makers, shares = zip(*KINDS, strict=True)
    found: dict[str, Case] = {}
    while len(found) < count:
        case = rng.choices(makers, shares)[0](rng)
        found.setdefault(repr((case.words, case.files)), case)
    return list(found.values())
