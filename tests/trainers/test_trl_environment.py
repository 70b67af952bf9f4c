"""One environment class, unchanged, in TRL's GRPOTrainer and in a rollout of rlpost: the same tokens and reward."""

import random

import pytest
import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer, chat_template_utils

from rlpost.environment.tools import Tools
from rlpost.models import tiny
from rlpost.reward.environment import earned
from rlpost.rollout.context import Context
from rlpost.rollout.engine import Completion, Sampling
from rlpost.rollout.turns import multi_turn
from rlpost.stack import Reward, RewardStack
from rlpost.types import Task
from tests.environment.classes import Counter

PROMPT = [{"role": "user", "content": "count"}]
ADD = '<tool_call>\n{"name": "add", "arguments": {"amount": %d}}\n</tool_call><|im_end|>'
# Calls that TRL and rlpost word alike: good ones, two at once, one that raises.
BOOM = '<tool_call>\n{"name": "boom", "arguments": {"why": "no"}}\n</tool_call><|im_end|>'
SCRIPTS = [
    [ADD % 4, "It is 7.<|im_end|>"],
    ["I add twice: " + ADD.replace("<|im_end|>", "") % 1 + "\n" + ADD % 2, BOOM, ADD % 5, "Done.<|im_end|>"],
    ["No tool.<|im_end|>"],
]


@pytest.fixture(scope="module")
def bundle():
    made = tiny.text(context=8192)
    made.encoder.tokenizer.chat_template = chat_template_utils.qwen2_5_chat_template
    return made


def written(bundle, text: str) -> list[int]:
    return bundle.encoder.tokenizer(text, add_special_tokens=False)["input_ids"]


def by_trl(bundle, folder):
    """TRL's own loop; only the sampled tokens come from the script."""
    args = GRPOConfig(
        output_dir=str(folder), per_device_train_batch_size=3, num_generations=3, max_completion_length=2048,
        report_to="none", use_cpu=True, bf16=False,
    )  # fmt: skip
    trainer = GRPOTrainer(
        model=bundle.model, args=args, processing_class=bundle.encoder.tokenizer, environment_factory=Counter,
        train_dataset=Dataset.from_list([{"prompt": PROMPT, "start": 3}]),
    )  # fmt: skip
    said = [0] * 3

    def single_turn(prompt_ids, *_, **__):
        # The rows that go on keep their order: those whose script has another line.
        rows = [k for k in range(3) if said[k] < len(SCRIPTS[k])]
        assert len(rows) == len(prompt_ids)
        tokens = [written(bundle, SCRIPTS[k][said[k]]) for k in rows]
        for k in rows:
            said[k] += 1
        return tokens, [[0.0] * len(one) for one in tokens]

    trainer._generate_single_turn = single_turn
    return trainer._generate_and_score_completions([{"prompt": PROMPT, "start": 3} for _ in range(3)]), trainer


def by_rlpost(bundle):
    said = [0] * 3

    def engine(prompts, n, sampling):
        rows = [k for k in range(3) if said[k] < len(SCRIPTS[k])]
        assert len(rows) == len(prompts)
        found = [written(bundle, SCRIPTS[k][said[k]]) for k in rows]
        for k in rows:
            said[k] += 1
        return [Completion(tokens, [0.0] * len(tokens), "eos") for tokens in found]

    stack = RewardStack({"environment": Reward(earned)})
    ctx = Context(engine, bundle.encoder, stack, Sampling(512), 3, random.Random(0))
    env = Tools(path="tests.environment.classes.Counter")
    rows = multi_turn([Task("t", PROMPT, columns={"start": 3})], ctx, environment=env, max_turns=9)
    ctx.score(rows)
    env.nursery.close()
    return rows


def test_the_same_class_gives_the_same_rows(bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    theirs, trainer = by_trl(bundle, tmp_path)
    ours = by_rlpost(bundle)
    for k, row in enumerate(ours):
        assert theirs["prompt_ids"][k][theirs["prompt_mask"][k].bool()].tolist() == row.prompt.ids
        there = theirs["completion_mask"][k].bool()
        assert theirs["completion_ids"][k][there].tolist() == row.tokens
        assert theirs["tool_mask"][k][there].bool().tolist() == row.trains
    assert [row.scores["environment"] for row in ours] == [7.0, 11.0, 3.0]
    assert list(trainer._logs["rewards"]["Counter"]) == [7.0, 11.0, 3.0]
    assert torch.tensor([not all(row.trains) for row in ours]).tolist() == [True, True, False]
