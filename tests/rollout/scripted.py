"""An engine that answers by a rule on the text of the prompt, for rollouts that ask more than once."""

import random
from collections.abc import Callable, Sequence

from rlpost.models import tiny
from rlpost.models.encode import Encoder
from rlpost.rollout.context import Context
from rlpost.rollout.engine import Completion, Sampling
from rlpost.stack import Reward, RewardStack
from rlpost.types import Task

ENCODER = Encoder(tiny.byte_tokenizer())
EOS = ENCODER.tokenizer.eos_token_id


class Scripted:
    """`say(prompt text, k)` is the k-th completion of a prompt, written whole; it remembers what it was asked."""

    def __init__(self, say: Callable[[str, int], str]):
        self.say = say
        self.asked: list[str] = []
        self.limits: list[int] = []

    def __call__(self, prompts, n, sampling: Sampling) -> list[Completion]:
        texts = [ENCODER.tokenizer.decode(p.ids) for p in prompts]
        self.asked += texts
        self.limits.append(sampling.max_tokens)
        found = [[*ids(self.say(text, k)), EOS] for text in texts for k in range(n)]
        return [Completion(tokens, [-0.5] * len(tokens), "eos") for tokens in found]


def ids(text: str) -> list[int]:
    return ENCODER.tokenizer(text, add_special_tokens=False)["input_ids"]


def task(name: str, answer: str | None = "7", demonstration: str | None = None) -> Task:
    return Task(name, [{"role": "user", "content": name}], answer=answer, demonstration=demonstration)


def contains(rollouts):
    """1 where the answer stands in the text, None without an answer."""
    return [None if r.task.answer is None else float(r.task.answer in r.text) for r in rollouts]


def context(say: Callable[[str, int], str], n: int = 4, seed: int = 0, **more) -> Context:
    stack = RewardStack({"right": Reward(contains)})
    return Context(Scripted(say), ENCODER, stack, Sampling(16), n, random.Random(seed), **more)


def by_role(rows: Sequence, role: str) -> list:
    return [row for row in rows if row.role == role]
