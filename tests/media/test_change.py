"""What a contrast does to frames keeps their number and, but for blank and drop, every frame."""

import numpy as np
import pytest

from rlpost.media.change import CHANGES, changed, named

FRAMES = np.random.default_rng(0).integers(0, 256, (7, 4, 6, 3)).astype(np.uint8)


@pytest.mark.parametrize("change", CHANGES)
def test_shape_and_type_stay(change):
    found = changed(FRAMES, named(change, 3))
    assert found.shape == FRAMES.shape and found.dtype == FRAMES.dtype
    assert not np.array_equal(found, FRAMES)


def test_shuffle_is_a_permutation_that_its_seed_fixes():
    found = changed(FRAMES, "shuffle:5")
    assert np.array_equal(found, changed(FRAMES, "shuffle:5"))
    order = [next(i for i, f in enumerate(FRAMES) if np.array_equal(f, g)) for g in found]
    assert sorted(order) == list(range(7))
    assert len({changed(FRAMES, f"shuffle:{seed}").tobytes() for seed in range(20)}) > 15


def test_reverse_drop_blank_and_nothing():
    assert np.array_equal(changed(FRAMES, "reverse:0"), FRAMES[::-1])
    assert all(np.array_equal(f, FRAMES[0]) for f in changed(FRAMES, "drop:0"))
    assert np.unique(changed(FRAMES, "blank:0")).tolist() == [127]
    assert changed(FRAMES, "") is FRAMES


def test_unknown_changes_are_refused():
    with pytest.raises(ValueError, match="shuffle, reverse, drop, blank"):
        named("sort", 0)
    with pytest.raises(ValueError, match="shuffle, reverse, drop, blank"):
        changed(FRAMES, "sort:0")
