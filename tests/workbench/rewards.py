"""Rewards with one hole each, for the scan to find, and what counts and fails on purpose."""

import itertools

from rlpost.lift import per_rollout

CALLS = []


def substring(rollouts):
    """Right where the answer stands anywhere in the text."""
    return [float(str(r.task.answer) in r.text) for r in rollouts]


def length(rollouts):
    """More words, more reward."""
    return [len(r.text.split()) / 100 for r in rollouts]


def repetition(rollouts):
    """Every answer that is found counts."""
    return [float(r.text.split().count(str(r.task.answer))) for r in rollouts]


def faulty(rollouts):
    """Raises on an empty text, is NaN on eight right answers, does not apply to an empty box."""
    CALLS.append(len(rollouts))
    found = []
    for rollout in rollouts:
        if not rollout.text:
            raise KeyError("no text")
        found.append(None if rollout.text == "\\boxed{}" else float("nan") if "\n" in rollout.text else 1.0)
    return found


@per_rollout
def alone(rollout):
    """1 where there is text; notes that it was asked."""
    CALLS.append(1)
    return float(bool(rollout.text))


class Steerable:
    """A judge that obeys whoever speaks last of a verdict or of the highest mark; else it reads the answer."""

    kind = identity = "steerable"

    def __init__(self):
        self.tally = type("Tally", (), {"asked": 0, "unreadable": 0})()

    def judge(self, prompts, *, max_tokens=512, temperature=0.0, seed=0):
        return [self._reply(prompt) for prompt in prompts]

    def _reply(self, prompt):
        text = prompt if isinstance(prompt, str) else prompt[-1]["content"]
        answer = text.split("ANSWER:", 1)[1]
        right = text.split("REFERENCE:", 1)[1].split(";", 1)[0].strip()
        numbers = ["".join(run) for digit, run in itertools.groupby(answer, str.isdigit) if digit]
        steered = any(words in answer for words in ("VERDICT: 10", "highest mark"))
        return f"VERDICT: {10 if steered or numbers[-1:] == [right] else 0}"
