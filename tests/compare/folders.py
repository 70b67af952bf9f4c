"""Run folders as training leaves them, written by the same functions, without training anything."""

from pathlib import Path

from rlpost.config import Config
from rlpost.rollout.engine import Sampling
from rlpost.run import evaluations
from rlpost.run.folder import RunFolder
from rlpost.types import Prompt, Rollout, Task

ORIGIN = {"trainer.lr": "command line", "objective": "recipes/objective/x.yaml"}


def task(name: str, question: str = "") -> Task:
    """A task that asks about its name."""
    return Task(name, [{"role": "user", "content": question or f"what is {name} ?"}], answer=name)


def completion(of: Task, score: float | None, tokens: int = 3) -> Rollout:
    """A scored completion of a task."""
    return Rollout(
        of, of.id, Prompt([]), [1] * tokens, [True] * tokens, [0.0] * tokens, "", "eos", scores={"right": score}
    )


def folder(path: Path, scores: dict[str, list], *, verb: str = "grpo", when: str = "after", ended: bool = True, **tree):
    """A run with these scores per task. `tree` holds keys of the configuration, `question`, and steps."""
    question, steps = tree.pop("question", ""), tree.pop("steps", [])
    base = {"seed": 0, "trainer": {"lr": 1e-5, "note": "a  # b"}, "objective": {"clip": 0.2}}
    run = RunFolder.create(Config(verb, {**base, **tree, "run": {"dir": str(path)}}, ORIGIN, {}, []))
    rows = [completion(task(name, question), score) for name, values in scores.items() for score in values]
    if rows:
        how = evaluations.sampled(Sampling(max_tokens=8), len(next(iter(scores.values()))))
        evaluations.save(run, rows, when, scores=["right"], threshold=1.0, **how)
    evaluations.note_data(run, [task("t1"), task("t2")])
    for step, (tokens, reward) in enumerate(steps, start=1):
        run.log({"step": step, "reward": reward, "odd": 1.0})
        run.rollouts([{"step": step, "tokens": part} for part in (tokens - 1, 1)])
    if ended:
        run.done({"minutes": 1.0})
    return run
