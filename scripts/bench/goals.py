"""Every goal by its name: what it is, and what measures it. Targets and stretches stand with the cases."""

from scripts.bench import generation, heads, sharing, startup, whole
from scripts.bench.record import Goal

GOALS: dict[str, Goal] = {
    "C1": Goal("log-probability and entropy, forward and backward", "ratio", heads.tuned),
    "C2": Goal("the same with a frozen head", "ratio", heads.frozen),
    "C3": Goal("the same with half of the weights zero", "ratio", heads.half_zero),
    "C4": Goal("model step that scores completion rows only", "ratio", heads.scored_rows),
    "C5": Goal("shared prompt, text: forward and backward", "ratio", sharing.text),
    "C6": Goal("shared prompt, image: forward and backward", "ratio", sharing.vision),
    "C7": Goal("exactness of sharing in float64", "error", sharing.exact),
    "C8": Goal("generation of a group", "ratio", generation.sharing),
    "C9": Goal("help of the command line", "ms", startup.help_pages),
    "C10": Goal("whole GRPO step", "ratio", whole.steps),
}
