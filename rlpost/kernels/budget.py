"""How many bytes of logits the kernels may hold at once."""

import torch

# On a CPU: 2048 rows of a vocabulary of 128k in float32, and small beside any model's parameters and optimizer state.
CPU_BYTES = 1 << 30
# Of the CUDA memory that is free when the forward pass of the head runs: the rest belongs to the backward pass.
CUDA_SHARE = 0.4


def logits_budget(device: torch.device) -> int:
    """Bytes of logits (M,V) that a kernel holds at once on `device` unless it is told otherwise.

    On CUDA a share of what is free now, counting what torch's allocator has reserved and not given out; on any other
    device 1 GiB. The kernels keep what fits from the forward pass to the backward pass and compute the rest again.
    """
    if device.type != "cuda":
        return CPU_BYTES
    free, _ = torch.cuda.mem_get_info(device)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(CUDA_SHARE * (free + unused))
