"""The adapter around TRL's vLLM wrapper, against a stand-in of that wrapper: vLLM itself needs a GPU."""

import pytest
import torch

from rlpost.errors import ConfigError, DataError
from rlpost.models import tiny
from rlpost.rollout.engine import Sampling
from rlpost.trainers.vllm import VllmEngine, start
from rlpost.types import Prompt


class StandIn:
    """Answers each prompt with its first token, its place among the copies, and sometimes the stop token."""

    max_completion_length = 4

    def __init__(self, stop: int):
        self.stop, self.syncs, self.asked = stop, 0, []

    def sync_weights(self):
        self.syncs += 1

    def generate(self, prompts, images, num_generations):
        self.asked.append((prompts, images, num_generations))
        tails = [[self.stop] if k % 2 else [] for k in range(len(prompts))]
        answers = [[p[0], 10 + k, *tail] for k, (p, tail) in enumerate(zip(prompts, tails, strict=True))]
        return prompts, answers, [[[-0.1 * (t + 1)] for t in range(len(a))] for a in answers], None


@pytest.fixture
def engine():
    bundle = tiny.text()
    return VllmEngine(StandIn(bundle.encoder.stop_ids[0]), bundle.encoder)


def test_completions_come_back_in_order_with_their_stop(engine):
    found = engine([Prompt([7, 8]), Prompt([9])], 2, Sampling(4))
    assert [c.tokens[:2] for c in found] == [[7, 10], [7, 11], [9, 12], [9, 13]]
    assert [c.stop for c in found] == ["length", "eos", "length", "eos"]
    assert found[1].logp == pytest.approx([-0.1, -0.2, -0.3])
    assert engine.generation.asked == [([[7, 8], [7, 8], [9], [9]], None, 2)]


def test_weights_are_synced_once_per_step(engine):
    for step in (0, 0, 1):
        engine.sync(step)
    assert engine.generation.syncs == 2


def test_media_and_longer_answers_are_refused(engine):
    with pytest.raises(DataError, match="text prompts only"):
        engine([Prompt([7], [2], {"video_grid_thw": torch.ones(1, 3)})], 2, Sampling(4))
    with pytest.raises(ConfigError, match="5 tokens"):
        engine([Prompt([7])], 1, Sampling(5))


def test_without_the_package_a_sentence_says_what_to_install(engine):
    with pytest.raises(ConfigError, match=r"rlpost\[vllm\]"):
        start(None, engine.encoder, Sampling(4))
