"""The adapter around TRL's vLLM wrapper: on the wrapper's own code with a stand-in for vLLM, which needs a GPU."""

import contextlib
from types import SimpleNamespace

import pytest
import torch
from trl.generation import vllm_generation

from rlpost.errors import ConfigError, DataError
from rlpost.models import tiny
from rlpost.rollout.engine import Sampling
from rlpost.trainers.vllm import VllmEngine, start
from rlpost.types import Prompt


class StandIn:
    """vLLM as far as the wrapper calls it: `n` answers of a prompt's first token, the answer's number, and at times
    the stop token. It stands for the colocated engine and for the client of a server."""

    def __init__(self, stop: int):
        self.stop, self.asked = stop, []

    def answers(self, prompts: list[list[int]], n: int) -> list[list[list[int]]]:
        self.asked.append((prompts, n))
        return [[[p[0], 10 + k, *([self.stop] if k % 2 else [])] for k in range(n)] for p in prompts]

    def colocated(self, prompts, sampling_params, use_tqdm):
        assert sampling_params.max_tokens == 4 and sampling_params.temperature == 1.0
        asked = [p["prompt_token_ids"] for p in prompts]
        found = self.answers(asked, sampling_params.n)
        return [
            SimpleNamespace(
                prompt_token_ids=ids,
                outputs=[
                    SimpleNamespace(
                        token_ids=answer,
                        logprobs=[{t: SimpleNamespace(logprob=-0.1 * (i + 1), rank=1)} for i, t in enumerate(answer)],
                    )
                    for answer in answers
                ],
            )
            for ids, answers in zip(asked, found, strict=True)
        ]

    def served(self, prompts, n, **_):
        answers = [a for group in self.answers(prompts, n) for a in group]
        logps = [[[-0.1 * (i + 1)] for i in range(len(a))] for a in answers]
        return {"prompt_ids": prompts, "completion_ids": answers, "logprobs": logps}


def wrapper(mode: str, stand_in: StandIn) -> vllm_generation.VLLMGeneration:
    """TRL's wrapper as its constructor leaves it, without starting vLLM."""
    found = vllm_generation.VLLMGeneration.__new__(vllm_generation.VLLMGeneration)
    found.__dict__ |= {
        "mode": mode, "tensor_parallel_size": 1, "generation_kwargs": {}, "enable_sleep_mode": False,
        "temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "logprobs": 0,
        "max_completion_length": 4, "structured_outputs_regex": None, "model": torch.nn.Linear(1, 1),
        "accelerator": SimpleNamespace(is_main_process=True, process_index=0),
        "llm": SimpleNamespace(generate=stand_in.colocated), "vllm_client": SimpleNamespace(generate=stand_in.served),
    }  # fmt: skip
    found.syncs = 0
    found.sync_weights = lambda: setattr(found, "syncs", found.syncs + 1)
    return found


@pytest.fixture(params=["colocate", "server"])
def engine(request, monkeypatch):
    monkeypatch.setattr(vllm_generation, "SamplingParams", SimpleNamespace, raising=False)
    monkeypatch.setattr(vllm_generation, "gather_object", lambda found: found)
    monkeypatch.setattr(vllm_generation, "broadcast_object_list", lambda found, from_process: None)
    bundle = tiny.text()
    made = VllmEngine(wrapper(request.param, StandIn(bundle.encoder.stop_ids[0])), bundle.encoder)
    made.stand_in = (
        made.generation.llm if request.param == "colocate" else made.generation.vllm_client
    ).generate.__self__
    return made


def test_completions_come_back_in_order_with_their_stop(engine):
    """vLLM gets each prompt once and is asked for all its completions."""
    found = engine([Prompt([7, 8]), Prompt([9])], 3, Sampling(4))
    assert [c.tokens[:2] for c in found] == [[p, 10 + k] for p in (7, 9) for k in range(3)]
    assert [c.stop for c in found] == ["length", "eos", "length"] * 2
    assert found[1].logp == pytest.approx([-0.1, -0.2, -0.3])
    assert engine.stand_in.asked == [([[7, 8], [9]], 3)]
    assert engine.generation.generation_kwargs == {}


def test_ranks_that_share_a_model_get_copies(engine, monkeypatch):
    """The wrapper gathers the prompts of its ranks and cuts as many answers out as a rank had prompts."""
    if engine.generation.mode == "server":
        pytest.skip("a server divides its model by itself")
    group = {"tensor_parallel_size": 2, "tp_group": None}
    engine.generation.__dict__ |= group

    def gathered(into, prompts, group):
        into[0], into[1] = [[1], [1]] if isinstance(prompts[0], list) else [None] * 2, prompts

    monkeypatch.setattr(torch.distributed, "all_gather_object", gathered)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda group: 1)
    found = engine([Prompt([7, 8])], 2, Sampling(4))
    assert engine.stand_in.asked == [([[1], [1], [7, 8], [7, 8]], 1)]
    assert [c.tokens[0] for c in found] == [7, 7]


def test_what_was_set_is_set_again_after_an_error(engine):
    engine.generation.generation_kwargs = {"seed": 3}
    engine.generation.max_completion_length = 5
    with contextlib.suppress(AssertionError):  # the stand-in expects 4
        engine([Prompt([7])], 2, Sampling(4))
    assert engine.generation.generation_kwargs == {"seed": 3}


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
