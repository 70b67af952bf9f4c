"""Sampling with vLLM through TRL's own wrapper, colocated or on a server; weights are synced once per step."""

from collections.abc import Sequence
from typing import Any

from rlpost.errors import ConfigError, DataError
from rlpost.models.encode import Encoder
from rlpost.rollout.engine import Completion, Sampling
from rlpost.types import Prompt


class VllmEngine:
    """An engine for `rollout.Context`: `n` completions of each prompt, in order. Text only.

    The log-probabilities are vLLM's own, after temperature and truncation; they are `gen_logp`, never `old_logp`.
    vLLM is asked for `n` completions of each prompt instead of one completion of `n` copies. On a server TRL's wrapper
    does so itself, from copies that stand side by side. Colocated it asks for one each, unless its `generation_kwargs`
    say otherwise, which they do here; with tensor parallelism its ranks then cut the answers apart wrongly, so there
    the copies stay. Tested with the wrapper's own code and a stand-in for vLLM, never with vLLM itself.
    """

    def __init__(self, generation: Any, encoder: Encoder):
        self.generation, self.encoder = generation, encoder
        self._synced: int | None = None

    def sync(self, step: int) -> None:
        """Hand the trainer's weights to vLLM, unless they were handed over at this step."""
        if self._synced != step:
            self.generation.sync_weights()
            self._synced = step

    def __call__(self, prompts: Sequence[Prompt], n: int, how: Sampling) -> list[Completion]:
        """Raises DataError for a prompt with media, ConfigError where a rollout asks for too many tokens."""
        if any(prompt.features for prompt in prompts):
            raise DataError(
                "rollout.engine=vllm takes text prompts only so far: images and videos are not handed to it yet, "
                "so set rollout.engine=transformers"
            )
        if how.max_tokens > self.generation.max_completion_length:
            raise ConfigError(
                f"the rollout asks vLLM for {how.max_tokens} tokens, but it was started for "
                f"{self.generation.max_completion_length}; raise rollout.max_tokens"
            )
        completions, logps = self._asked([prompt.ids for prompt in prompts], n)
        stops = set(self.encoder.stop_ids)
        return [
            Completion(list(tokens), [step[0] for step in logp], "eos" if tokens and tokens[-1] in stops else "length")
            for tokens, logp in zip(completions, logps, strict=True)
        ]

    def _asked(self, prompts: list[list[int]], n: int) -> tuple[list[list[int]], list[list[list[float]]]]:
        wrapper = self.generation
        if wrapper.mode != "colocate" or wrapper.tensor_parallel_size > 1:
            _, completions, logps, _ = wrapper.generate([ids for ids in prompts for _ in range(n)], None, n)
            return completions, logps
        before = wrapper.generation_kwargs
        wrapper.generation_kwargs = {**before, "n": n}
        try:
            _, completions, logps, _ = wrapper.generate(prompts, None, n)
        finally:
            wrapper.generation_kwargs = before
        return completions, logps


def start(trainer: Any, encoder: Encoder, sampling: Sampling) -> VllmEngine:
    """Start vLLM with the `vllm_*` fields of the trainer. Raises ConfigError where the package is not installed."""
    try:
        import vllm  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "rollout.engine=vllm needs vLLM: pip install 'rlpost[vllm]' on a machine with a GPU"
        ) from error
    from trl.generation.vllm_generation import VLLMGeneration

    args = trainer.args
    generation = VLLMGeneration(
        model=trainer.model,
        accelerator=trainer.accelerator,
        processing_class=encoder.tokenizer,
        mode=args.vllm_mode,
        server_base_url=args.vllm_server_base_url,
        server_host=args.vllm_server_host,
        server_port=args.vllm_server_port,
        group_port=args.vllm_group_port,
        server_timeout=args.vllm_server_timeout,
        tensor_parallel_size=args.vllm_tensor_parallel_size,
        gpu_memory_utilization=args.vllm_gpu_memory_utilization,
        max_model_length=args.vllm_max_model_length,
        enable_sleep_mode=args.vllm_enable_sleep_mode,
        model_impl=args.vllm_model_impl,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        max_completion_length=sampling.max_tokens,
        logprobs=0,
    )
    return VllmEngine(generation, encoder)
