"""Counted parts against the bytes of real tensors, estimates against what autograd keeps."""

import numpy as np
import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from rlpost.errors import OutOfMemory
from rlpost.models import tiny, tiny_video
from rlpost.models.positions import position_ids
from rlpost.models.roles import with_adapter
from rlpost.plan import budget, memory
from rlpost.plan.device import Device
from rlpost.plan.memory import Load
from rlpost.plan.skeleton import as_trained, skeleton
from rlpost.types import Media, Task

LLAMA = {"_target_": "rlpost.models.tiny.text"}
LORA = {"_target_": "peft.LoraConfig", "r": 4, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}


def test_weights_of_the_tiny_llama_by_hand():
    """259 words of 32; q and o 32x32, k and v 32x16 (2 of 4 heads), MLP 3 x 32x64, two norms; 2 layers; final norm."""
    layer = 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64 + 2 * 32
    parameters = 259 * 32 + 2 * layer + 32
    model = skeleton(LLAMA).model
    assert model.device.type == "meta"
    assert memory.gradients(model) == 4 * parameters
    rotary = 2 * 4 * 4  # inv_freq and its original: half a head of 8, in float32
    assert memory.weights(model) == 4 * parameters + rotary
    assert memory.optimizer(model, "adamw_torch") == 2 * 4 * parameters + 4 * (2 * 9 + 2)  # 9 tensors a layer


def size(tensors):
    return sum(t.numel() * t.element_size() for t in tensors)


def stepped(model, kind, **knobs):
    """The optimizer after one step, as the run makes it."""
    own = [p for p in model.parameters() if p.requires_grad]
    optimizer = kind(own, lr=1e-3, **knobs)
    model(input_ids=torch.ones(1, 4, dtype=torch.long)).logits.sum().backward()
    optimizer.step()
    held = [t for state in optimizer.state.values() for t in state.values() if isinstance(t, torch.Tensor)]
    return size(p.grad for p in own), size(held)


@pytest.mark.parametrize("peft", [None, LORA])
@pytest.mark.parametrize(("name", "kind"), [("adamw_torch", torch.optim.AdamW), ("sgd", torch.optim.SGD)])
def test_what_is_counted_is_what_a_real_step_holds(peft, name, kind):
    real = with_adapter(tiny.text().model, peft)
    planned = as_trained(skeleton(LLAMA), "grpo", {"peft": peft})
    gradients, state = stepped(real, kind)
    assert memory.weights(planned) == size([*real.parameters(), *real.buffers()])
    assert memory.gradients(planned) == gradients
    assert memory.optimizer(planned, name) == state
    assert sum(p.numel() for p in memory.trainable(planned)) < 26880 or peft is None


def test_adafactor_keeps_rows_and_columns():
    from transformers.optimization import Adafactor

    model = tiny.text().model
    _, state = stepped(model, Adafactor, relative_step=False, scale_parameter=False)
    assert memory.optimizer(model, "adafactor") == state
    assert memory.optimizer(model, "of_my_own") is None


def test_a_reward_model_has_its_head():
    planned = as_trained(skeleton(LLAMA), "reward", {"seed": 0})
    assert sum(p.numel() for p in planned.parameters()) == 26880 + 32
    assert memory.logits(planned, Load(tokens=9, rows=1, trained=9), "cpu", 0) == 0


def kept(model, run):
    """Bytes that autograd keeps of a pass, each storage once, the model's own tensors apart."""
    own = {t.untyped_storage().data_ptr() for t in [*model.parameters(), *model.buffers()]}
    seen, alive = {}, []

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        alive.append(tensor)
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return sum(seen.values())


# The formula leaves out what is small beside it: statistics of norms and attention, tables of the rotation.
@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize(
    ("dtype", "autocast", "slack"),
    [(torch.float32, False, 0.03), (torch.bfloat16, False, 0.03), (torch.float32, True, 0.12)],
)
def test_activations_are_near_what_autograd_keeps(family, dtype, autocast, slack):
    model = tiny.text(hidden=64, layers=4, family=family).model.train().to(dtype)
    ids = torch.ones(3, 100, dtype=torch.long)

    def run():
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            return model.base_model(input_ids=ids, use_cache=False).last_hidden_state

    load = Load(tokens=300, rows=3, trained=0)
    predicted = memory.activations(model, load, checkpointing=False, autocast=autocast)
    assert predicted == pytest.approx(kept(model, run), rel=slack)


def test_activations_of_a_video():
    bundle = tiny_video.video_tiny()
    frames = np.zeros((8, 56, 56, 3), np.uint8)
    turn = {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "what moves ?"}]}
    prompt = bundle.encoder.prompt(Task("v", (turn,), media=(Media("video", frames=frames, fps=4.0),)))
    inputs = bundle.encoder.collate([prompt] * 4)
    inputs["position_ids"] = position_ids(bundle.model, inputs)
    model = bundle.model.train()
    measured = kept(model, lambda: model.base_model(**inputs, use_cache=False).last_hidden_state)
    # 4 clips of 8 frames of 4x4 patches, two frames in each: 4 * 4 * 16 patches
    load = Load(tokens=inputs["input_ids"].numel(), rows=4, trained=0, patches=256)
    assert memory.activations(model, load, checkpointing=False, autocast=False) == pytest.approx(measured, rel=0.05)


def test_checkpointing_keeps_states_and_one_block():
    """Width 32, inner 64, queries 32, keys 16, float32: a block is 2*12*32 + 4*(64+32+256) = 2176 bytes a token."""
    model, load = skeleton(LLAMA).model, Load(tokens=10, rows=1, trained=0)
    assert memory.block(32, 64, 32, 16, item=4, stream=4) == 2176
    final = 3 * 32 * 4
    assert memory.activations(model, load, checkpointing=False, autocast=False) == 10 * (2 * 2176 + final)
    assert memory.activations(model, load, checkpointing=True, autocast=False) == 10 * (2 * 32 * 4 + 2176 + final)


def test_logits_stay_within_the_kernels_budget():
    model = skeleton(LLAMA).model
    small = memory.logits(model, Load(tokens=0, rows=1, trained=100), "cpu", 0)
    assert small == 100 * 259 * 4 + 3 * 100 * 32 * 4
    many = 10_000_000
    assert memory.logits(model, Load(tokens=0, rows=1, trained=many), "cpu", 0) == 2**30 + 3 * many * 32 * 4


def test_cache_of_generation():
    """8 rows of 2 prompts of 10 and answers of 5: float32 reads one copy of a prompt. 16 bytes * 2 * 2 * 4 a token."""
    load = Load(tokens=0, rows=8, trained=0, drawn=8, drawn_prompts=2, prompt=10, answer=5)
    model = skeleton(LLAMA).model
    per_token = 2 * 2 * 16 * 4  # keys and values of 2 layers, 2 heads of 8, float32
    tables = 16 * 8 * 259 + 2 * 10 * (4 * 32 + 3 * 64) * 4
    assert memory.cache(model, load, engine="transformers") == per_token * (2 * 10 + 8 * 5) + tables
    half = model.to(torch.bfloat16)
    tables = 16 * 8 * 259 + 2 * 10 * (4 * 32 + 3 * 64) * 2
    assert memory.cache(half, load, engine="transformers") == per_token // 2 * (8 * 10 + 8 * 5) + tables
    assert memory.cache(model, load, engine="vllm") == 0


def tree(accumulation=1, ranks=1, **launch):
    return {
        "trainer": {"gradient_accumulation_steps": accumulation, "activation_checkpointing": False},
        "launch": {"num_processes": ranks, **launch},
    }


CPU = Device("here", "cpu", free=2**40, total=2**40, libraries=1000, shared=True)


GPU = Device("elsewhere", "cuda", free=2**40, total=2**40, libraries=1000, shared=False)


def test_the_peak_has_what_is_there_together(monkeypatch):
    """On a GPU gradients come while activations go; with accumulation, and in a process of a CPU, both are there."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    model, load = skeleton(LLAMA).model, Load(tokens=1000, rows=1, trained=10)
    facts = budget.table(model, tree(), load, {"reference": 500}, GPU)
    parts = facts["parts"]
    fixed = 1000 + parts["weights"] + parts["optimizer"] + 500
    forward = parts["activations"] + parts["logits"]
    assert facts["peak"] == fixed + forward + 259 * 32 * 4  # the head's gradient is the largest
    for more in (tree(accumulation=2), tree()):
        device = GPU if more != tree() else CPU
        assert (
            budget.table(model, more, load, {"reference": 500}, device)["peak"] == fixed + forward + parts["gradients"]
        )
    two = budget.table(model, tree(ranks=2), load, {}, CPU)
    assert two["ranks in this memory"] == 2
    assert two["parts"]["exchange of gradients"] == parts["gradients"]


def test_shards_hold_their_share(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    model, load = skeleton(LLAMA).model, Load(tokens=10, rows=1, trained=10)
    sharded = tree(ranks=4, launcher="accelerate", config="accelerate/zero3.yaml")
    parts = budget.table(model, sharded, load, {}, CPU)["parts"]
    assert parts["gradients"] == 26880 * 4 // 4
    assert parts["optimizer"] == pytest.approx(2 * 26880 * 4 / 4, rel=0.001)  # and a number of steps a tensor
    assert "exchange of gradients" not in parts


def test_what_does_not_fit_says_what_to_do(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    model, load = skeleton(LLAMA).model, Load(tokens=1000, rows=1, trained=10)
    facts = budget.table(model, tree(), load, {}, CPU)
    assert budget.verdict(facts) is None
    facts["device"]["free"] = int(facts["peak"] * 1.05)
    assert "tight" in budget.verdict(facts)
    facts["device"]["free"] = facts["peak"] - 1
    with pytest.raises(OutOfMemory, match="activation_checkpointing"):
        budget.verdict(facts)
    assert OutOfMemory.exit_code == 6
