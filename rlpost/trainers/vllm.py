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
        """Raises DataError for a prompt with media, ConfigError where a rollout asks for another length."""
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
        asked = [prompt.ids for prompt in prompts for _ in range(n)]
        _, completions, logps, _ = self.generation.generate(asked, None, n)
        stops = set(self.encoder.stop_ids)
        return [
            Completion(list(tokens), [step[0] for step in logp], "eos" if tokens and tokens[-1] in stops else "length")
            for tokens, logp in zip(completions, logps, strict=True)
        ]


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
