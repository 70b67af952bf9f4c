"""Completions as a stage finds them in an earlier run's folder."""

from rlpost.types import Prompt, Rollout, Task


def task(name, **columns):
    """A one-line question."""
    return Task(name, ({"role": "user", "content": name},), columns=columns)


def said(about, text, reward=None, *, group=None, role="policy", stop="eos", length=None, **scores):
    """A completion of a task with its total reward."""
    about = about if isinstance(about, Task) else task(about)
    info = {"reward": reward, "length": len(text) if length is None else length, "step": None}
    return Rollout(
        about, group or about.id, Prompt([]), [], [], [], text, stop, role=role, scores=dict(scores), info=info
    )


class Logp:
    """A second model that knows the log-probability of every text: half of it per token, over two tokens."""

    def __init__(self, table):
        self.table = table

    def logp(self, prompts, completions):
        assert all(not isinstance(prompt, str) for prompt in prompts)
        return [[self.table[text] / 2, self.table[text] / 2] for text in completions]
