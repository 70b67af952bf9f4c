"""What a contrast does to the frames of a video. A change is a name, with the seed of its draw where it has one."""

import numpy as np

CHANGES = ("shuffle", "reverse", "drop", "blank")


def named(change: str, seed: int) -> str:
    """The text that `Media.change` carries: the same text gives the same frames anywhere."""
    if change not in CHANGES:
        raise ValueError(f"unknown change {change!r} of frames: choose one of {', '.join(CHANGES)}")
    return f"{change}:{seed}"


def changed(frames: np.ndarray, change: str) -> np.ndarray:
    """Apply a change to (F,H,W,3) frames. The number of frames and so of placeholder tokens never changes.

    shuffle: a uniform permutation (the identity included, as in the paper). reverse: last frame first. drop: every
    frame shows the first one, so motion and order are gone. blank: mid-grey frames, so all of the video is gone.
    """
    if not change:
        return frames
    name, _, seed = change.partition(":")
    if name == "shuffle":
        return frames[np.random.default_rng(int(seed)).permutation(len(frames))]
    if name == "reverse":
        return frames[::-1]
    if name == "drop":
        return np.repeat(frames[:1], len(frames), axis=0)
    if name == "blank":
        return np.full_like(frames, 127)
    raise ValueError(f"unknown change {change!r} of frames: choose one of {', '.join(CHANGES)}")
