"""What a contrast does to frames keeps their number and, but for blank and drop, every frame."""

import numpy as np
import pytest

from rlpost.media.change import CHANGES, changed, named

FRAMES = np.random.default_rng(0).integers(0, 256, (7, 4, 6, 3)).astype(np.uint8)


@pytest.mark.parametrize("change", CHANGES)
def test_shape_and_type_stay(change):
    found = changed(FRAMES, named(change, 3, 0.5 if change in ("noise", "grey") else None))
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


def test_noise_is_in_units_of_the_pixels_deviation_and_stays_a_pixel():
    plain = np.full((40, 16, 16, 3), 127, dtype=np.uint8)
    plain[::2] += 20  # deviation 10
    noisy = changed(plain, named("noise", 1, 0.5))
    assert noisy.dtype == np.uint8 and (noisy.astype(float) - plain).std() == pytest.approx(5.0, rel=0.02)
    assert np.array_equal(noisy, changed(plain, named("noise", 1, 0.5)))
    assert not np.array_equal(noisy, changed(plain, named("noise", 2, 0.5)))
    assert np.array_equal(changed(plain, named("noise", 1, 0.0)), plain)
    loud = changed(FRAMES, named("noise", 1, 5.0))
    assert loud.min() == 0 and loud.max() == 255


@pytest.mark.parametrize(("share", "grey"), [(0.0, 0), (0.5, 4), (0.6, 4), (1.0, 8)])
def test_a_share_of_the_frames_is_grey(share, grey):
    frames = np.zeros((8, 2, 2, 3), dtype=np.uint8)
    found = changed(frames, named("grey", 7, share))
    assert sum((frame == 127).all() for frame in found) == grey and not frames.any()


def test_an_amount_is_there_where_it_is_needed():
    with pytest.raises(ValueError, match="needs an amount"):
        named("noise", 1)
    with pytest.raises(ValueError, match="has no amount"):
        named("shuffle", 1, 0.5)
