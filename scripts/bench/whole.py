"""C10: a whole GRPO step (generate, score, loss, backward, optimizer) of our trainer against TRL's own."""

import copy
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from PIL import Image
from torch import Tensor
from transformers import Qwen2_5_VLProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from trl import GRPOConfig, GRPOTrainer

from rlpost.config import compose
from rlpost.models.encode import Bundle
from rlpost.run.folder import RunFolder
from rlpost.trainers import grpo
from rlpost.types import Media, Rollout, Task
from scripts.bench import models
from scripts.bench.record import Case, apart, fastest, gradients, largest, race

LENGTH, ANSWER, MEMBERS = 512, 32, 8
SIDE = 560  # pixels: 40 patches of 14
# Float32 through four layers and the loss; a token scored at a wrong place gives errors of the size of the gradient.
BOUND = 1e-4
RATE = 1e-5


class ImageProcessor(Qwen2_5_VLProcessor):
    """Qwen2.5-VL's processor without its part for videos, which needs torchvision."""

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, chat_template: str | None = None):
        self.image_token, self.video_token = "<|image_pad|>", "<|video_pad|>"
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        self.video_token_id = tokenizer.convert_tokens_to_ids(self.video_token)
        super(Qwen2_5_VLProcessor, self).__init__(image_processor, tokenizer, chat_template=chat_template)


def steps(repeats: int) -> list[Case]:
    """C10: text and image; one prompt per step, completions that all reach the limit."""
    bundles = [models.llama(), models.vision("qwen2_5_vl")]
    with tempfile.TemporaryDirectory() as folder:
        return [_case(bundle, repeats, Path(folder) / bundle.name) for bundle in bundles]


def _case(bundle: Bundle, repeats: int, folder: Path) -> Case:
    task = task_of(bundle)
    stock = copy.deepcopy(bundle.model)
    mine = our_trainer(bundle, task, folder / "ours")
    others = {
        f"{micro} rows": their_step(copy.deepcopy(stock), bundle, task, micro, folder / f"trl{micro}")
        for micro in (2, MEMBERS)
    }
    error = agreement(mine, their_trainer(stock, bundle, task, MEMBERS, folder / "trl"))
    naive = fastest(others, keep=1)
    times = race({"ours": our_step(mine), **naive}, repeats)
    (best,) = naive
    note = (
        f"P={len(mine.encoder.prompt(task).ids)} C={ANSWER} G={MEMBERS} float32, AdamW; TRL's fastest micro-batch is "
        f"{best}; error: loss and all gradients on the same rows, relative to the largest"
    )
    return Case(bundle.name, error, BOUND, 2.5, 4.0, times.ms["ours"], times.ms[best], times.spread, note)


def task_of(bundle: Bundle) -> Task:
    """A task whose encoded prompt has `LENGTH` tokens, with an image where the model sees one."""
    media, parts = (), []
    if bundle.encoder.media is not None:
        noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
        media, parts = (Media("image", frames=noise),), [{"type": "image"}]
    empty = _task("", parts, media)
    missing = LENGTH - len(bundle.encoder.prompt(empty).ids)
    return _task(("why does it move so? " * LENGTH)[:missing], parts, media)


def _task(text: str, parts: list[dict[str, str]], media: tuple[Media, ...]) -> Task:
    content = [*parts, {"type": "text", "text": text}] if parts else text
    return Task("only", [{"role": "user", "content": content}], media=media)


def uneven(rollouts: Sequence[Rollout]) -> list[float]:
    """A reward that differs between the completions of a prompt: it follows from the tokens."""
    return [_reward(rollout.tokens) for rollout in rollouts]


def _reward(tokens: Sequence[int]) -> float:
    return float(sum(tokens) % 7)


def _their_reward(completion_ids: list[list[int]], **_: Any) -> list[float]:
    return [_reward(tokens) for tokens in completion_ids]


# --- ours ---------------------------------------------------------------------------------------------------


def our_trainer(bundle: Bundle, task: Task, folder: Path) -> grpo.Grpo:
    """Our trainer on a list of one task."""
    cfg = compose(
        "grpo",
        [
            "recipe=grpo",
            "model=tiny",
            "reward=[]",
            "trainer.max_steps=1000",
            f"run.dir={folder}",
            f"trainer.learning_rate={RATE}",
            f"trainer.per_device_train_batch_size={MEMBERS}",
            "trainer.gradient_accumulation_steps=1",
            f"rollout.num_generations={MEMBERS}",
            f"rollout.max_tokens={ANSWER}",
        ],
    )
    cfg.tree["reward"] = {"uneven": {"_target_": "scripts.bench.whole.uneven"}}
    run, tasks = RunFolder.create(cfg), [task]
    parts = grpo.Parts(cfg, tasks)
    trainer = grpo.Grpo(bundle, cfg, grpo._arguments(cfg, run, parts, len(tasks)), tasks, parts)
    trainer.attach(run)
    trainer.create_optimizer()
    return trainer


def our_step(trainer: grpo.Grpo) -> Callable[[], None]:
    """One optimizer step: new rollouts, their credit, loss, backward, clipping and AdamW."""
    return lambda: _optimize(trainer, [0])


def _optimize(trainer: Any, batches: Sequence[Any]) -> None:
    """What transformers' loop does in a step, without its data loader and logging."""
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = len(batches)
    for batch in batches:
        trainer.training_step(trainer.model, batch, None)
    torch.nn.utils.clip_grad_norm_(trainer.model.parameters(), trainer.args.max_grad_norm)
    trainer.optimizer.step()
    trainer.model.zero_grad()


# --- theirs -------------------------------------------------------------------------------------------------


def their_trainer(model: Any, bundle: Bundle, task: Task, micro: int, folder: Path) -> GRPOTrainer:
    """TRL's trainer on the same prompt, `micro` rows at a time; its completions cannot end early either."""
    tokenizer = bundle.encoder.tokenizer
    processing: Any = tokenizer
    if bundle.encoder.media is not None:
        image = Qwen2VLImageProcessorPil(max_pixels=4096 * 28 * 28)
        processing = ImageProcessor(image, tokenizer, tokenizer.chat_template)
    args = GRPOConfig(
        output_dir=str(folder),
        learning_rate=RATE,
        max_steps=1000,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=MEMBERS // micro,
        num_generations=MEMBERS,
        max_completion_length=ANSWER,
        loss_type="grpo",
        beta=0.0,
        bf16=False,
        use_cpu=True,
        weight_decay=0.0,
        report_to=[],
        activation_checkpointing=False,
    )
    trainer = GRPOTrainer(
        model=model,
        args=args,
        reward_funcs=[_their_reward],
        train_dataset=Dataset.from_list([_row(task)]),
        processing_class=processing,
    )
    trainer.eos_token_ids = [models.NEVER]
    trainer.generation_config.eos_token_id = models.NEVER
    trainer.create_optimizer()
    return trainer


def their_step(model: Any, bundle: Bundle, task: Task, micro: int, folder: Path) -> Callable[[], None]:
    """One optimizer step of TRL's trainer, in micro-batches; it generates in the first of them."""
    trainer = their_trainer(model, bundle, task, micro, folder)
    batch = [_row(task) for _ in range(MEMBERS)]
    return lambda: _optimize(trainer, [batch] * (MEMBERS // micro))


def _row(task: Task) -> dict[str, Any]:
    messages = [dict(message) for message in task.prompt]
    if not task.media:
        return {"prompt": messages}
    messages[0]["content"] = task.prompt[0]["content"][1]["text"]
    return {"prompt": messages, "image": Image.fromarray(task.media[0].frames)}


# --- agreement ----------------------------------------------------------------------------------------------


def agreement(mine: grpo.Grpo, other: GRPOTrainer) -> float:
    """Loss and every gradient of both trainers on rollouts of ours, whose model has the same weights.

    TRL scores with the whole vocabulary also where it suppresses ids in sampling, and we without the suppressed ones:
    for the comparison none is suppressed.
    """
    (item,) = mine.micro_batches(0)
    media: Any = mine.encoder.media
    suppressed = media.special_tokens if media else ()
    if media:
        media.special_tokens, mine.sharing.banned = (), ()
    # At equal old and new log-probabilities every ratio is 1 and the loss of a group 0: shift them.
    draw = torch.Generator().manual_seed(3)
    logp, _ = mine._logp(mine.model, item)
    item.logps["old_logp"] = logp + 0.3 * torch.randn(logp.shape, generator=draw)
    mine.model.train().zero_grad()
    loss, _ = mine.micro_loss(mine.model, item)
    loss.backward()
    prompts, answers = [r.prompt for r in item.rollouts], [r.tokens for r in item.rollouts]
    batch = mine.encoder.collate(prompts, answers)
    model: Any = other.model
    model.train().zero_grad()
    other.current_gradient_accumulation_steps = 1
    wanted = other._compute_loss(model, _their_inputs(batch, item))
    wanted.backward()
    value = apart({"": loss.detach()}, {"": wanted.detach()})
    slopes = apart(gradients(mine.model), gradients(model))
    mine.model.zero_grad()
    if media:
        media.special_tokens = suppressed
        mine.sharing.banned = tuple(mine.encoder.suppress)
    return largest(value, slopes)


def _their_inputs(batch: dict[str, Tensor], item: Any) -> dict[str, Any]:
    width = item.scored.mask.shape[1]
    ids, attention = batch["input_ids"], batch["attention_mask"]
    return {
        "prompt_ids": ids[:, :-width],
        "prompt_mask": attention[:, :-width],
        "completion_ids": ids[:, -width:],
        "completion_mask": attention[:, -width:],
        "advantages": item.scored.advantage[:, 0],
        "old_per_token_logps": item.logps["old_logp"],
        "num_items_in_batch": item.scored.mask.sum(),
        **{name: batch[name] for name in ("pixel_values", "image_grid_thw", "mm_token_type_ids") if name in batch},
        **({"num_images": [1] * len(ids)} if "pixel_values" in batch else {}),
    }
