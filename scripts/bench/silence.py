"""H9: an update whose groups without spread leave before the trunk, against the same update with all rows scored.

Credit, silence, dealing and loss are rlpost's own; sharing prompts is on in both. Everything is a function of a model
and sizes, and runs on a CPU at a tiny size; with the sizes and the clock of a GPU it has not been run yet.
"""

from dataclasses import dataclass

import torch

from rlpost import rows, step
from rlpost.advantage.group import group_zscore
from rlpost.aggregate.means import row_mean
from rlpost.kernels import prefix
from rlpost.likelihood.causal import causal
from rlpost.likelihood.scoring import Rows
from rlpost.models.encode import Bundle
from rlpost.objective.clipped import ppo_clip
from rlpost.stack import Reward, RewardStack
from rlpost.step import Method, Term
from rlpost.types import Prompt, Rollout, Scored, Task, TokenBatch
from scripts.bench import cuda, gpu_sharing, large, models, sharing
from scripts.bench.record import Case, apart, gradients

GROUPS, MEMBERS, LENGTH, ANSWER, SHARE = 10, 8, 1024, 256, 0.4
# Equal rows in equal micro-batches: what is left is bfloat16's rounding of sums in another order.
BOUND = 2e-2
GRPO = Method(group_zscore, row_mean, Term("objective", ppo_clip))


@dataclass(frozen=True)
class Update:
    """The rollouts of an optimizer step, their credit, and how they are dealt: all of them, and without the silent."""

    rollouts: list[Rollout]
    scored: Scored
    everything: rows.Dealt
    loud: rows.Dealt


def update_of(
    bundle: Bundle,
    *,
    groups: int = GROUPS,
    members: int = MEMBERS,
    length: int = LENGTH,
    answer: int = ANSWER,
    share: float = SHARE,
) -> Update:
    """Groups of `members` completions, one group per micro-batch; `share` of the groups have equal rewards."""
    draw = torch.Generator().manual_seed(6)
    rollouts = []
    for group in range(groups):
        prompt = models.prompt(bundle, length, seed=group)
        silent = int((group + 1) * share + 1e-9) > int(group * share + 1e-9)  # spread over the step
        for member in range(members):
            tokens = torch.randint(300, models.VOCABULARY, (answer,), generator=draw).tolist()
            reward = 1.0 if silent else float(member % 2)
            rollouts.append(_rollout(str(group), prompt, tokens, reward))
    credit = step.score(rows.scored(rollouts, RewardStack({"given": Reward(_given)})), GRPO)
    dealt = rows.deal(credit.scored, [0] * len(rollouts), 1, 1, groups)
    return Update(rollouts, credit.scored, dealt, rows.without(credit.scored, dealt, step.silent(credit.scored, GRPO)))


def _rollout(group: str, prompt: Prompt, tokens: list[int], reward: float) -> Rollout:
    size, scores = len(tokens), {"given": reward}
    found = Rollout(Task(group, []), group, prompt, tokens, [True] * size, [0.0] * size, "", "length", scores=scores)
    found.span, found.source = [-1] * size, ["policy"] * size
    return found


def _given(rollouts: list[Rollout]) -> list[float]:
    return [rollout.scores["given"] for rollout in rollouts]


def run(bundle: Bundle, update: Update, trained: rows.Dealt, optimizer: torch.optim.Optimizer | None = None) -> None:
    """Forward and backward of the micro-batches of `trained`, with the counts of all rows."""
    bundle.model.zero_grad()
    counts = rows.step_counts(update.scored, update.everything, 0, trained=trained)
    for part in trained[0][0]:
        if part:
            batch = _batch(bundle, [update.rollouts[row] for row in part], rows.narrow(update.scored, part))
            step.loss(batch, GRPO, counts)[0].backward()
    if optimizer is not None:
        optimizer.step()


def _batch(bundle: Bundle, rollouts: list[Rollout], table: Scored) -> TokenBatch:
    device = next(bundle.model.parameters()).device
    prompts, answers = [r.prompt for r in rollouts], [r.tokens for r in rollouts]
    packed = prefix.pack(bundle.model, bundle.encoder, prompts, answers, table.mask, device)
    found = causal(bundle.model, Rows(sharing.cast(packed.inputs, bundle.model), packed.ask))
    return TokenBatch(
        tokens=table.tokens.to(device),
        mask=table.mask.to(device),
        logp=found.logp,
        old_logp=found.logp.detach(),
        advantage=None if table.advantage is None else table.advantage.to(device),
        group=table.group.to(device),
    )


def disagreement(bundle: Bundle, update: Update) -> float:
    """All gradients without the silent groups against those of all rows, relative to the largest."""
    run(bundle, update, update.everything)
    wanted = gradients(bundle.model)
    run(bundle, update, update.loud)
    return apart(gradients(bundle.model), wanted)


def compare(repeats: int) -> list[Case]:
    """H9: forward, backward and AdamW, whose rate is 0 so that every repetition sees the same weights."""
    bundle = gpu_sharing.prepared(large.qwen3_4b())
    update = update_of(bundle)
    error = disagreement(bundle, update)
    adam = torch.optim.AdamW(bundle.model.parameters(), lr=0.0, weight_decay=0.0, fused=True)
    runs = {
        "ours": lambda: run(bundle, update, update.loud, adam),
        "theirs": lambda: run(bundle, update, update.everything, adam),
    }
    times = cuda.race(runs, repeats)
    note = (
        f"{GROUPS} groups of {MEMBERS}, {SHARE:.0%} with equal rewards, P={LENGTH} C={ANSWER} bfloat16, prompts shared "
        f"on both sides; limit {1 / (1 - SHARE):.2f}x"
    )
    ms = times.ms
    return [Case("Qwen3-4B", error, BOUND, 1.55, 1.65, ms["ours"], ms["theirs"], times.spread, note)]
