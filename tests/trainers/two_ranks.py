"""Runs `rlpost grpo` on scripted rollouts and saves the weights: started alone and under torchrun by test_ranks.py."""

import sys

import torch

from rlpost.config import compose
from rlpost.run.folder import RunFolder
from rlpost.trainers import grpo


def main(folder: str, *overrides: str) -> None:
    cfg = compose("grpo", ["model=tiny", "reward=[]", f"run.dir={folder}", "evaluation.tasks=0", *overrides])
    cfg.tree["rollout"]["_target_"] = "tests.trainers.scripted.collect"
    cfg.tree["reward"] = {"uneven": {"_target_": "tests.trainers.scripted.uneven"}}
    resumed = cfg.tree["resume"]
    grpo.run(cfg, RunFolder.open(resumed, cfg) if resumed else RunFolder.create(cfg))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
