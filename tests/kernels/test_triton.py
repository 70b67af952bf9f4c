"""The Triton kernels against the eager twin, through the launches that a GPU gets, in Triton's interpreter on the CPU.

Triton decides at import whether it interprets, and other tests of a process may have imported it. So the first test
runs this file again in a process of its own, where the variable is set before anything is imported.
"""

import importlib.util
import os
import subprocess
import sys

import pytest
import torch

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
ROWS, WIDTH, WORDS = 5, 6, 131

if importlib.util.find_spec("triton") is None:
    pytest.skip("no Triton on this machine", allow_module_level=True)

if not INTERPRETED:

    def test_in_a_process_of_its_own():
        command = [sys.executable, "-m", "pytest", __file__, "-q", "-p", "no:cacheprovider", "-p", "no:randomly"]
        done = subprocess.run(
            command, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
        assert " passed" in done.stdout or "[100%]" in done.stdout

else:
    from rlpost.kernels import blocks, eager, linear_logp, triton_logp

    @pytest.fixture(autouse=True)
    def small(monkeypatch):
        """Two blocks of 96 and 35 ids, in splits of 64 and chunks of 32: every boundary falls inside something."""
        monkeypatch.setattr(blocks, "blocks_of", lambda hidden: triton_logp.TritonBlocks)
        monkeypatch.setattr(triton_logp, "WIDTH", 96)
        monkeypatch.setattr(triton_logp, "SPLIT", 64)
        monkeypatch.setattr(triton_logp, "CHUNK", 32)

    def inputs(dtype=torch.float32, frozen=False, rows=ROWS):
        draw = torch.Generator().manual_seed(1)
        given = {
            "hidden": torch.randn(rows, WIDTH, generator=draw).to(dtype),
            "head": torch.randn(WORDS, WIDTH, generator=draw).to(dtype),
            "bias": torch.randn(WORDS, generator=draw).to(dtype),
            "tokens": torch.tensor([1, 95, 96, 130, 64, 7, 8])[:rows],
        }
        for name in ("hidden", "head", "bias"):
            given[name].requires_grad_(not frozen or name == "hidden")
        return given

    def run(function, given, upstream, *, bias=False, **settings):
        leaves = [given[n] for n in ("hidden", "head", *(["bias"] if bias else [])) if given[n].requires_grad]
        logp, entropy = function(
            given["hidden"], given["head"], given["tokens"], bias=given["bias"] if bias else None, **settings
        )
        g, h = upstream
        loss = (g * logp).sum() + (0.0 if h is None else (h * entropy).sum())
        return [logp.detach(), entropy.detach(), *torch.autograd.grad(loss, leaves)]

    def upstream(entropy=True, zeros=False, rows=ROWS):
        g = torch.linspace(-2.0, 3.0, rows)
        h = 0.7 * g.flip(0) if entropy else None
        for t in (g, h):
            if zeros and t is not None:
                t[[0, 3]] = 0.0
        return g, h

    def close(found, wanted, dtype=torch.float32):
        assert len(found) == len(wanted)
        for i, (a, b) in enumerate(zip(found, wanted, strict=True)):
            assert a.dtype == b.dtype
            # bf16 gradients: dL/dz and the result are rounded to 8 bits, in another order than the oracle's.
            loose = i >= 2 and dtype == torch.bfloat16
            atol = 4 * 2**-8 * float(b.float().abs().max()) if loose else 1e-5
            torch.testing.assert_close(a, b, atol=atol, rtol=0 if loose else 1e-5)

    COLUMN = 4 * ROWS
    # Both blocks are kept; one is, beside the one in work (32 ids wide); none is.
    BUDGETS = {"all": 1 << 30, "some": 2 * 32 * COLUMN, "none": 16 * COLUMN}

    PLAIN, CAPPED = {"temperature": 0.7}, {"softcap": 2.0, "banned": (0, 5, 96)}
    BIASED = {"temperature": 1.7, "softcap": 3.0, "bias": True}
    CASES = [
        (PLAIN, "all", False),
        (PLAIN, "some", True),
        (CAPPED, "some", False),
        (CAPPED, "none", True),
        (BIASED, "all", False),
        (BIASED, "none", True),
    ]

    @pytest.mark.parametrize("settings, limit, frozen", CASES)
    def test_values_and_gradients_equal_the_oracle(settings, limit, frozen):
        up = upstream(entropy=settings.get("bias", False), zeros=limit != "none")
        found = run(linear_logp, inputs(frozen=frozen), up, budget=BUDGETS[limit], **settings)
        wanted = run(eager.linear_logp, inputs(frozen=frozen), up, **settings)
        same = [torch.isfinite(w) for w in wanted]
        assert all(torch.equal(torch.isfinite(a), s) for a, s in zip(found, same, strict=True))
        close([a[s] for a, s in zip(found, same, strict=True)], [b[s] for b, s in zip(wanted, same, strict=True)])

    @pytest.mark.parametrize("limit, frozen", [("all", False), ("none", True)])
    def test_bfloat16(limit, frozen):
        given = inputs(torch.bfloat16, frozen)
        settings = {"temperature": 0.9, "banned": (3,)}
        found = run(linear_logp, given, upstream(entropy=not frozen), budget=BUDGETS[limit], **settings)
        close(found, run(eager.linear_logp, given, upstream(entropy=not frozen), **settings), torch.bfloat16)

    @pytest.mark.parametrize("limit", ["some"])
    def test_only_the_entropy_has_a_gradient(limit):
        up = torch.zeros(ROWS), upstream()[1]
        found = run(linear_logp, inputs(), up, budget=BUDGETS[limit], banned=(64,))
        wanted = run(eager.linear_logp, inputs(), up, banned=(64,))
        close(found[1:], wanted[1:])
        assert found[0][4] == -torch.inf and found[3][64].abs().max() == 0.0

    @pytest.mark.parametrize("rows", [1, 7])
    def test_other_sizes(rows):
        up = upstream(rows=rows)
        close(run(linear_logp, inputs(rows=rows), up), run(eager.linear_logp, inputs(rows=rows), up))

    def test_no_rows_and_no_gradient():
        given = inputs(rows=0)
        found = run(linear_logp, given, upstream(rows=0))
        assert found[0].shape == (0,) and found[3].abs().max() == 0.0
        up = torch.zeros(ROWS), torch.zeros(ROWS)
        assert all(g.abs().max() == 0.0 for g in run(linear_logp, inputs(), up)[2:])

    @pytest.mark.parametrize("limit, frozen", [("all", False), ("none", True)])
    def test_extreme_logits_stay_finite(limit, frozen):
        given = inputs(frozen=frozen)
        given["hidden"] = (1e4 * given["hidden"].detach()).requires_grad_()
        found = run(linear_logp, given, upstream(entropy=not frozen), temperature=0.1, budget=BUDGETS[limit])
        assert all(torch.isfinite(t).all() for t in found) and found[1].min() >= 0.0

    def test_a_second_backward_pass_gives_the_same_gradient():
        given = inputs()
        logp, entropy = linear_logp(given["hidden"], given["head"], given["tokens"])
        one = torch.autograd.grad((logp + entropy).sum(), given["head"], retain_graph=True)[0]
        assert torch.equal(one, torch.autograd.grad((logp + entropy).sum(), given["head"])[0])
