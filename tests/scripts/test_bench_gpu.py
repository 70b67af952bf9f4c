"""What `make bench-gpu` compares, at a tiny size on a CPU: its answers agree, and a mistake is seen.

The clock of a GPU, FlexAttention's backward pass and its compiled form stay untested: they need one.
"""

import pytest
import torch

from rlpost.kernels import linear_logp
from rlpost.likelihood.scoring import teach
from scripts.bench import cuda, flex, gpu_heads, gpu_sharing, heads, large, models, record, sharing, silence
from scripts.bench.record import NotMeasured

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without")


@pytest.mark.parametrize("how", [{}, {"frozen": True}, {"half": True}])
def test_the_head_is_right_within_bfloat16(how):
    given = gpu_heads.Head((600, 16, 96), device="cpu", **how)
    assert given.error(linear_logp) < gpu_heads.BOUND and given.error(heads.theirs) < gpu_heads.BOUND
    assert (given.head.grad is None) is bool(how.get("frozen"))
    # Half of the 256 rows that are compared have no weight: both kinds are seen.
    assert int((given.weight[172:428] == 0).sum()) == (128 if "half" in how else 0)

    def shifted(hidden, head, tokens):
        return linear_logp(hidden, head, (tokens + 1) % 96)

    assert given.error(shifted) > 5 * gpu_heads.BOUND


def test_large_models_have_the_sizes_of_those_that_they_stand_for():
    """Published as 4.02 and 3.75 billion parameters; a tied head counts once."""
    sizes = [
        sum(p.numel() for p in build("meta").model.parameters()) for build in (large.qwen3_4b, large.qwen2_5_vl_3b)
    ]
    width, inner, words = 2560, 9728, 151936
    # Query and output are 4096 wide, keys and values 1024; two norms of the width and two of a head in each layer.
    layer = 2 * width * 4096 + 2 * width * 1024 + 3 * width * inner + 2 * width + 2 * 128
    assert sizes[0] == 36 * layer + words * width + width
    assert sizes[0] / 1e9 == pytest.approx(4.02, abs=0.005) and sizes[1] / 1e9 == pytest.approx(3.75, abs=0.005)


# --- H7 -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def packed_rows():
    """Three lengths, none a multiple of FlexAttention's blocks of 128; the row of two groups is the first."""
    found = [flex.Layout((9, 140), ((5, 1, 7), (3, 8))), *flex.layouts(37, answer=10, members=3, steps=2)]
    return [flex.row_of(layout, "cpu", torch.float32, heads=(4, 2), width=16) for layout in found]


def test_our_attention_equals_flex_attention_with_a_block_mask(packed_rows):
    reference = flex.Flex(compiled=False)
    assert len({row.query.shape[2] for row in packed_rows}) == 3
    # Softmax in float32 over at most 150 columns, outputs of about 1: a few roundings of 6e-8.
    assert max(flex.disagreement(reference, row) for row in packed_rows) < 2e-6


@pytest.mark.parametrize("mistake", ["completions see each other", "no prompt"])
def test_a_wrong_block_mask_is_seen(packed_rows, mistake, monkeypatch):
    stock = flex.segments

    def wrong(layout, device):
        part, prompt = stock(layout, device)
        return (part * 0, prompt) if mistake == "completions see each other" else (part, prompt * 0 - 1)

    monkeypatch.setattr(flex, "segments", wrong)
    assert flex.disagreement(flex.Flex(compiled=False), packed_rows[0]) > 1e-2


def test_a_step_goes_backward_through_every_layer_where_the_row_wants_gradients():
    row = flex.row_of(flex.Layout((4,), ((2, 3),)), "cpu", torch.float32, heads=(2, 1), width=8)
    row.query.requires_grad_()
    seen = []

    def prepare(given):
        def layer():
            seen.append(given.query.grad is None)
            return flex.ours(given)()

        return layer

    flex.step(prepare, row, 3)
    assert seen == [True, False, False] and row.query.grad.abs().max() > 0


def test_what_compiles_again_is_counted():
    double = torch.compile(lambda x: x * 2, backend="eager", dynamic=False)
    double(torch.ones(3))
    before = flex.compilations()
    double(torch.ones(3))
    assert flex.compilations() == before
    double(torch.ones(5))
    assert flex.compilations() == before + 1


# --- H8 -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clip():
    """Two steps of 4 by 4 patches: 8 visual tokens among 21."""
    bundle = models.vision("qwen2_5_vl", layers=2, width=64)
    teach(bundle.model)
    return bundle, gpu_sharing.clip_group(bundle, (2, 4, 4), words=13, answer=5, members=3)


def test_a_shared_video_changes_neither_logp_nor_gradients(clip):
    bundle, group = clip
    assert sum(group.prompt.kinds) == 2 * 8 and len(group.prompt.ids) == 21
    with models.float64(bundle.model), sharing._float64_head():
        assert gpu_sharing.disagreement(bundle, group, 1) < 1e-12
        assert gpu_sharing.disagreement(bundle, group, 2) < 1e-12
        grad = record.gradients(bundle.model)
        assert max(float(g.abs().max()) for name, g in grad.items() if "visual" in name) > 1e-3
        wanted, slopes = sharing.naive_step(bundle, group, 3), record.gradients(bundle.model)
        for control in sharing.CONTROLS:
            assert sharing._error(bundle, group, wanted, slopes, control) > sharing.WRONG, control


def test_an_update_is_held_against_the_fastest_micro_batches(clip, monkeypatch):
    bundle, group = clip
    bundle.model.float()
    asked = []

    def clock(runs, repeats):
        asked.append((list(runs), repeats))
        for run in runs.values():
            run()
        return record.Times({"ours": 2.0, "1 rows": 9.0, "3 rows": 8.0}, 1.1)

    case = gpu_sharing.update(bundle, group, "clip", (4.5, 6.0), clock, 7, micro=(1, 3))
    assert asked == [(["ours", "1 rows", "3 rows"], 7)]
    assert (case.ratio, case.target, case.stretch) == (4.0, 4.5, 6.0) and "3 rows at a time" in case.note
    assert case.max_error < 1e-5 and "P=21 C=5 G=3 float32" in case.note


def test_without_sharing_a_video_is_encoded_for_every_completion(clip):
    bundle, group = clip
    patches = []
    hook = bundle.model.model.visual.register_forward_pre_hook(lambda _, given: patches.append(len(given[0])))
    sharing.naive_step(bundle, group, 2)
    sharing.shared_step(bundle, group)
    hook.remove()
    assert patches == [64, 32, 32]


def test_a_prompt_without_room_for_its_medium_is_refused(clip):
    with pytest.raises(ValueError, match="a prompt of 15 tokens has no room for 8"):
        models.prompt(clip[0], 15, grid=(2, 4, 4), kind="video")


# --- H9 -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def update():
    bundle = models.llama(layers=2, width=64)
    teach(bundle.model)
    return bundle, silence.update_of(bundle, groups=5, members=4, length=9, answer=6)


def test_groups_without_spread_are_left_out_and_counted(update):
    _, given = update
    everything, loud = given.everything[0][0], given.loud[0][0]
    assert [len(part) for part in everything] == [4] * 5
    # 0.4 of 5 groups are 2; int(0.4 i) grows at the third and the fifth.
    assert sorted(row for part in loud for row in part) == [*range(8), *range(12, 16)]
    counts = [
        silence.rows.step_counts(given.scored, given.everything, 0, trained=t) for t in (given.everything, given.loud)
    ]
    assert [(c.rows, c.tokens, c.micro_batches) for c in counts] == [(20, 120, 5), (20, 120, 3)]


def test_without_silent_groups_the_gradients_are_the_same(update):
    bundle, given = update
    with models.float64(bundle.model), sharing._float64_head():
        assert silence.disagreement(bundle, given) < 1e-12
        wrong = silence.Update(given.rollouts, given.scored, given.everything, [[given.everything[0][0][1:]]])
        assert silence.disagreement(bundle, wrong) > 1e-2


def test_silent_groups_do_not_reach_the_trunk(update):
    bundle, given = update
    columns = []
    hook = bundle.model.model.layers[0].register_forward_pre_hook(lambda _, x: columns.append(x[0].shape[1]))
    silence.run(bundle, given, given.everything)
    silence.run(bundle, given, given.loud)
    hook.remove()
    # A prompt of 9 and four completions of 6, whose last tokens predict nothing.
    assert columns == [9 + 4 * 5] * (5 + 3)


def test_a_goal_that_does_not_fit_has_a_reason(monkeypatch):
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)

    def measure(repeats):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.96 GiB.\nMore")

    with pytest.raises(NotMeasured, match=r"does not hold it: CUDA out of memory. Tried to allocate 9.96 GiB.$"):
        cuda.alone(measure)(5)
    assert cuda.alone(lambda repeats: [repeats])(5) == [5]
