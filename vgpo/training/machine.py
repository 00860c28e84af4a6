"""What settings ask for and this machine has not, told with the cure."""

from importlib.util import find_spec

import torch
from transformers.utils import is_torch_bf16_gpu_available, is_torch_xla_available


class MissingGPUError(ValueError):
    """Settings ask for arithmetic that needs a GPU, and there is none that has it."""


def refuse_missing_gpu(bf16: bool, fp16: bool, use_cpu: bool) -> None:
    """Refuses arithmetic of 16 bits that nothing here computes in.

    Transformers says of bf16 that a "setup doesn't support bf16/gpu", accelerate of
    fp16 that it needs a GPU once weights are loaded.

    Args:
        bf16: Whether training, or evaluation, is to compute in bfloat16.
        fp16: Whether training is to compute in float16.
        use_cpu: Whether it is to be on the CPU, which has bfloat16.

    Raises:
        MissingGPUError: There is no such GPU.

    Example:
        >>> refuse_missing_gpu(bf16=True, fp16=False, use_cpu=True)
    """
    on_cpu = use_cpu or not torch.accelerator.is_available()
    if fp16 and on_cpu:
        raise MissingGPUError(
            "fp16: float16 needs a GPU, and training would be on the CPU; leave fp16 "
            "out, or go to a machine with a GPU"
        )
    # A TPU has it, too, and is none of torch's accelerators.
    has_bf16 = is_torch_bf16_gpu_available() or is_torch_xla_available()
    if bf16 and not use_cpu and not has_bf16:
        here = (
            "no GPU is here: train on a machine that has one, or with use_cpu true on "
            "this one's CPU, which is slow"
            if on_cpu
            else "this GPU is too old for bfloat16: set bf16 to false and fp16 to true"
        )
        raise MissingGPUError(f"bf16: {here}")


def refuse_missing_vllm(use_vllm: bool) -> None:
    """Refuses to generate with what is not installed, before weights are loaded.

    Raises:
        ValueError: vLLM is asked for, and not there.

    Example:
        >>> refuse_missing_vllm(use_vllm=False)
    """
    if use_vllm and find_spec("vllm") is None:
        raise ValueError(
            "use_vllm: vLLM is not installed; pip install vllm, or leave use_vllm out"
        )
