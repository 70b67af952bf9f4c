"""What a contrast does to the frames of a video. A change is a name, with the seed of its draw where it has one."""

import numpy as np

CHANGES = ("shuffle", "reverse", "drop", "blank", "noise", "grey")


def named(change: str, seed: int, amount: float | None = None) -> str:
    """The text that `Media.change` carries: the same text gives the same frames anywhere.

    `amount` is the deviation of noise in deviations of the pixels, and the share of frames that are grey.
    """
    if change not in CHANGES:
        raise ValueError(f"unknown change {change!r} of frames: choose one of {', '.join(CHANGES)}")
    if (change in ("noise", "grey")) != (amount is not None):
        raise ValueError(f"the change {change} of frames {'needs an' if amount is None else 'has no'} amount")
    return f"{change}:{seed}" if amount is None else f"{change}:{seed}:{amount!r}"


def changed(frames: np.ndarray, change: str) -> np.ndarray:
    """Apply a change to (F,H,W,3) frames. The number of frames and so of placeholder tokens never changes.

    shuffle: a uniform permutation (the identity included, as in the paper). reverse: last frame first. drop: every
    frame shows the first one, so motion and order are gone. blank: mid-grey frames, so all of the video is gone.
    noise: independent Gaussian noise on every value, cut to the range of a pixel. grey: floor(share * F) frames are
    mid-grey.
    """
    if not change:
        return frames
    name, seed, amount = [*change.split(":"), "", ""][:3]
    if name == "shuffle":
        return frames[np.random.default_rng(int(seed)).permutation(len(frames))]
    if name == "reverse":
        return frames[::-1]
    if name == "drop":
        return np.repeat(frames[:1], len(frames), axis=0)
    if name == "blank":
        return np.full_like(frames, 127)
    if name == "noise":
        size = float(amount) * float(frames.std())
        noisy = frames + np.random.default_rng(int(seed)).normal(0.0, size, frames.shape)
        return np.clip(np.rint(noisy), 0, 255).astype(frames.dtype)
    if name == "grey":
        hidden = np.random.default_rng(int(seed)).permutation(len(frames))[: int(float(amount) * len(frames))]
        found = frames.copy()
        found[hidden] = 127
        return found
    raise ValueError(f"unknown change {change!r} of frames: choose one of {', '.join(CHANGES)}")
