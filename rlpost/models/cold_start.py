"""A video_tiny that has seen demonstrations, since reinforcement needs a model that sometimes answers; cached."""

import hashlib
import json
import logging
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_model, save_model
from torch import Tensor

from rlpost.dataset import clips as clips_module
from rlpost.models import tiny_video
from rlpost.models.download import cache_dir, locked, new_folder
from rlpost.models.encode import Bundle, Encoder
from rlpost.models.positions import position_ids
from rlpost.types import Task

log = logging.getLogger("rlpost")
WARM_UP = 50
IGNORE = -100


def video_tiny_started(
    *,
    seed: int = 0,
    steps: int = 200,
    batch: int = 32,
    learning_rate: float = 1.0e-3,
    clips: int = 3072,
    clips_seed: int = 0,
) -> Bundle:
    """video_tiny after `steps` of supervised training on the demonstrations of dataset=clips.

    Edge cases: the first call trains (about a minute on one core, with writing the clips), later ones read the cache,
    which is keyed by the knobs and by the source of the model and of the clips.
    """
    bundle = tiny_video.video_tiny(seed=seed)
    knobs = [seed, steps, batch, learning_rate, clips, clips_seed]
    code = [Path(file).read_text() for file in (str(tiny_video.__file__), __file__)]
    made_from = json.dumps([knobs, code, clips_module.sources()])
    folder = cache_dir() / "models" / f"video-tiny-{hashlib.sha256(made_from.encode()).hexdigest()[:16]}"
    with locked(folder):
        if not folder.is_dir():
            tasks = clips_module.clips("train", train=clips, seed=clips_seed)
            log.info("cold start: %d supervised steps on %d clips, once; kept in %s", steps, len(tasks), folder)
            train(bundle.model, bundle.encoder, tasks, steps=steps, batch=batch, lr=learning_rate, seed=seed)
            with new_folder(folder) as staging:
                save_model(bundle.model, str(staging / "model.safetensors"))
    load_model(bundle.model, str(folder / "model.safetensors"))
    bundle.source = f"{folder}, {steps} supervised steps from seed {seed}"
    return bundle


def train(
    model: Any,
    encoder: Encoder,
    tasks: Sequence[Task],
    *,
    steps: int,
    batch: int,
    lr: float,
    seed: int,
) -> None:
    """A plain loop: AdamW with a linear warm-up on the tokens of the demonstrations, each once before any twice.

    Tasks are encoded when their turn comes: the patches of all clips would take a gigabyte.
    """
    adam = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01, betas=(0.9, 0.98))
    warm = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: min(1.0, (step + 1) / WARM_UP))
    rng, order, began = random.Random(seed), [], time.monotonic()
    model.train()
    for step in range(1, steps + 1):
        if len(order) < batch:
            order = rng.sample(range(len(tasks)), len(tasks))
        chosen = [tasks[order.pop()] for _ in range(min(batch, len(order)))]
        answers = [encoder.completion(task, task.demonstration).tokens for task in chosen]
        inputs = encoder.collate([encoder.prompt(task) for task in chosen], answers)
        positions = position_ids(model, inputs)
        loss = model(**inputs, position_ids=positions, labels=labels(inputs["input_ids"], answers)).loss
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        warm.step()
        if step % 50 == 0 or step == steps:
            log.info("cold start: step %d of %d, loss %.3f, %.0f s", step, steps, loss.item(), time.monotonic() - began)
    model.eval()


def labels(ids: Tensor, answers: Sequence[Sequence[int]]) -> Tensor:
    """The answers at the right of a collated batch; everything else is ignored."""
    width = max(len(answer) for answer in answers)
    target = torch.full_like(ids, IGNORE)
    for row, answer in enumerate(answers):
        start = ids.shape[1] - width
        target[row, start : start + len(answer)] = torch.tensor(list(answer))
    return target
