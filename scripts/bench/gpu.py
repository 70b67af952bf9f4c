"""H1 to H10 on the GPU at hand, with CUDA events: `make bench-gpu`.

None of this has been run yet: it was written on a machine without a GPU, and the targets are estimates for an H200.
What can be compared on a CPU at a tiny size is, in tests/scripts/test_bench_gpu.py.
"""

from scripts.bench import flex, gpu_heads, gpu_sharing, silence
from scripts.bench.cuda import alone, missing
from scripts.bench.record import Goal

__all__ = ["GOALS", "missing"]

GOALS: dict[str, Goal] = {
    "H1": Goal(
        "log-probability and entropy, forward and backward",
        "ms",
        alone(gpu_heads.step(((22.5, 20.5), (43, 40.5), (42, 37)))),
    ),
    "H2": Goal(
        "the same with a frozen head", "ms", alone(gpu_heads.step(((15, 13.8), (29, 27), (30, 25)), frozen=True))
    ),
    "H3": Goal("log-probabilities without gradient", "ms", alone(gpu_heads.no_gradient)),
    "H4": Goal("half of the weights zero", "ratio", alone(gpu_heads.step(((1.8, 2.1),) * 3, half=True))),
    "H5": Goal("peak memory of the head beyond its inputs", "mib", alone(gpu_heads.memory)),
    "H6": Goal("shared prompt, text: forward and backward", "ratio", alone(gpu_sharing.text)),
    "H7": Goal("attention to a shared prompt against a Flex mask", "ratio", alone(flex.compare)),
    "H8": Goal("shared video: forward and backward", "ratio", alone(gpu_sharing.video)),
    "H9": Goal("update with groups without spread", "ratio", alone(silence.compare)),
    "H10": Goal("generation of a group", "ratio", alone(gpu_sharing.generated)),
}
