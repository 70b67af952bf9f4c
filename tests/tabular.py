"""A table as the policy of a real rollout: it writes and scores text, so that a claim about a rollout takes seconds.

`state(question, text)` names the row of logits that decides what follows `text` under `question` (the rendered
prompt). Rollouts, rewards and the step are those of a real run; only the model is a table.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from rlpost import assemble, rows, step
from rlpost.config import build
from rlpost.models import tiny
from rlpost.models.encode import Encoder
from rlpost.rollout.context import Context
from rlpost.rollout.engine import Completion, Sampling
from rlpost.stack import Reward, RewardStack
from rlpost.types import Rollout, Scored, Task, TokenBatch
from tests.toy import composed

ENCODER = Encoder(tiny.byte_tokenizer())
EOS = ENCODER.tokenizer.eos_token_id
TURN = "<|im_start|>assistant\n"
# The symbol that ends a completion.
END = "$"


def task(name: str, answer: str, demonstration: str | None = None) -> Task:
    """A one-line question."""
    return Task(name, [{"role": "user", "content": name}], answer=answer, demonstration=demonstration)


class Tabular:
    """`logits` (states, symbols) over single characters; `END` among the symbols ends a completion."""

    def __init__(self, symbols: str, logits: Tensor, state: Callable[[str, str], int], seed: int = 0):
        self.ids = [
            EOS if s == END else ENCODER.tokenizer(s, add_special_tokens=False)["input_ids"][0] for s in symbols
        ]
        self.place = {token: i for i, token in enumerate(self.ids)}
        self.logits = logits.clone().requires_grad_()
        self.state = state
        self.generator = torch.Generator().manual_seed(seed)

    def engine(self, prompts, n, sampling) -> list[Completion]:
        """Samples as rollout/engine.py does, from the table."""
        asked = [_split(prompt.ids) for prompt in prompts for _ in range(n)]
        logp = torch.log_softmax(self.logits.detach(), -1)
        tokens: list[list[int]] = [[] for _ in asked]
        logps: list[list[float]] = [[] for _ in asked]
        done = [False] * len(asked)
        texts = [text for _, text in asked]
        for _ in range(sampling.max_tokens):
            alive = [i for i in range(len(asked)) if not done[i]]
            if not alive:
                break
            states = torch.tensor([self.state(asked[i][0], texts[i]) for i in alive])
            chosen = torch.multinomial(logp[states].exp(), 1, generator=self.generator)[:, 0]
            for i, symbol, p in zip(alive, chosen.tolist(), logp[states, chosen].tolist(), strict=True):
                tokens[i].append(self.ids[symbol])
                logps[i].append(p)
                done[i] = self.ids[symbol] == EOS
                texts[i] += "" if done[i] else _text([self.ids[symbol]])
        return [Completion(t, p, "eos" if d else "length") for t, p, d in zip(tokens, logps, done, strict=True)]

    def score(self, rollouts: Sequence[Rollout], width: int) -> tuple[Tensor, Tensor]:
        """Log-probability and entropy (N,T) of every token; 0 for characters that are no symbols."""
        states, chosen, known = self.places(rollouts, width)
        table = torch.log_softmax(self.logits, -1)
        logp = table[states].gather(-1, chosen.unsqueeze(-1))[..., 0]
        entropy = -(table.exp() * table).sum(-1)[states]
        return torch.where(known, logp, 0.0), torch.where(known, entropy, 0.0)

    def places(self, rollouts: Sequence[Rollout], width: int) -> tuple[Tensor, Tensor, Tensor]:
        """Before each token its state, the symbol that it is, and whether it is one (N,T)."""
        states, chosen = ([[0] * width for _ in rollouts] for _ in range(2))
        known = [[False] * width for _ in rollouts]
        for i, rollout in enumerate(rollouts):
            question, _ = _split(rollout.prompt.ids)
            text = ""
            for t, token in enumerate(rollout.tokens):
                if token in self.place:
                    states[i][t], chosen[i][t] = self.state(question, text), self.place[token]
                    known[i][t] = True
                text += _text([token])
        shape = (len(rollouts), width)
        return tuple(torch.tensor(table).reshape(shape) for table in (states, chosen, known))

    def probability(self, question: str, text: str, *, after: str = "") -> float:
        """How likely the policy writes `text` under a question whose rendered form contains `question`."""
        p, table = 1.0, self.logits.detach().softmax(-1)
        for symbol in text:
            token = EOS if symbol == END else ENCODER.tokenizer(symbol)["input_ids"][0]
            p *= float(table[self.state(question, after), self.place[token]])
            after += symbol
        return p


class Values:
    """A critic with a number per state of the table; places, loss and clip are those of the recipe's own."""

    def __init__(self, policy: Tabular, name: str, *overrides: str, lr: float):
        self.policy, self.option = policy, build(composed(f"recipe={name}", "model=tiny", *overrides)["critic"])
        self.table = torch.zeros(len(policy.logits), requires_grad=True)
        self.optimizer = torch.optim.SGD([self.table], lr=lr)

    def of(self, record: Scored, rollouts: Sequence[Rollout]) -> Tensor:
        """What it says now (N,T), NaN where it does not look."""
        states, _, _ = self.policy.places(rollouts, record.mask.shape[1])
        seen = self.option.looks_at(record.mask, record.length)
        return torch.where(seen, self.table[states], torch.nan)

    def learn(self, record: Scored, rollouts: Sequence[Rollout]) -> None:
        """One step on the mean loss over the tokens with a return."""
        seen = ~torch.isnan(record.returns)
        now, old, returns = (
            torch.where(seen, x, 0.0) for x in (self.of(record, rollouts), record.value, record.returns)
        )
        self.optimizer.zero_grad()
        (torch.where(seen, self.option.loss(now, old, returns).value, 0.0).sum() / seen.sum()).backward()
        self.optimizer.step()


def collected(name: str, *overrides: str):
    """The picked rollout of a recipe, its method, and how it samples, built as `rlpost grpo` builds them."""
    tree = composed(f"recipe={name}", "model=tiny", *overrides)
    sampling, n = assemble.sampling(tree["rollout"]), int(tree["rollout"]["num_generations"])
    return build(tree["rollout"]), assemble.method(tree), sampling, n


def context(policy: Tabular, stack: RewardStack, sampling: Sampling, n: int, *, seed: int = 0, **now) -> Context:
    """What the rollout of one step is handed."""
    names = str(now.get("step", 0))
    return Context(policy.engine, ENCODER, stack, sampling, n, random.Random(seed), names=names, **now)


def train(
    policy: Tabular, tasks: Sequence[Task], name: str, *overrides: str,
    right: Callable[[Rollout], float], steps: int, lr: float, seed: int = 0, models: Mapping[str, Any] | None = None,
    values: Values | None = None,
) -> list[list[Rollout]]:  # fmt: skip
    """Train the table with a recipe; returns the rollouts of each step. `models` are second models by role.

    `values` is the critic of a recipe that has one.
    """
    collect, method, sampling, n = collected(name, *overrides)
    stack = RewardStack({"right": Reward(lambda rollouts: [right(r) for r in rollouts])}, models or {})
    optimizer = torch.optim.SGD([policy.logits], lr=lr)
    history = []
    for i in range(steps):
        now = {"step": i, "progress": i / steps}
        ctx = context(policy, stack, sampling, n, seed=seed * 100_003 + i, version=i, **now)
        rollouts = collect(tasks, ctx)
        ctx.score(rollouts)
        history.append(rollouts)
        value = objective(policy, rollouts, method, stack, values, **now)
        if value is None:
            continue
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    return history


def objective(
    policy: Tabular, rollouts: Sequence[Rollout], method, stack, values: Values | None = None, **now
) -> Tensor | None:
    """The loss of one step on policy, None where no row stays; the reference is the policy itself. `values` learn."""
    table = rows.scored(rollouts, stack, version=now.get("step", 0))
    width = table.mask.shape[1]
    with torch.no_grad():
        old, entropy = policy.score(rollouts, width)
    table = replace(table, old_logp=old, old_entropy=entropy, ref_logp=old)
    if values:
        table = replace(table, value=values.of(table, rollouts).detach())
    credit = step.score(table, method, **now)
    kept = [rollouts[i] for i in credit.keep.nonzero()[:, 0].tolist()]
    if not kept:
        return None
    if values:
        values.learn(credit.scored, kept)
    logp, entropy = policy.score(kept, width)
    names = ("tokens", "mask", "advantage", "group", "old_logp", "old_entropy", "ref_logp", "gen_logp", "reward")
    names += ("length", "role", "stop", "turn", "trajectory", "index", "age", "span", "source")
    fields = {name: getattr(credit.scored, name) for name in names}
    batch = TokenBatch(logp=logp, entropy=entropy, **fields)
    counts = step.counts(credit.scored)
    return step.loss(batch, method, counts, **now)[0]


def _split(ids: Sequence[int]) -> tuple[str, str]:
    """The rendered prompt, and what stands after the start of the assistant's last turn."""
    question, _, text = _text(ids).rpartition(TURN)
    return question, text


_TEXT: dict[int, str] = {}


def _text(ids: Sequence[int]) -> str:
    for token in ids:
        if token not in _TEXT:
            _TEXT[token] = ENCODER.tokenizer.decode([token])
    return "".join(_TEXT[token] for token in ids)
