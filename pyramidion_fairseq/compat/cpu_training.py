"""Options that could work on a CPU, but that stock fairseq supports only on a TPU or a GPU."""

from __future__ import annotations

import functools
import importlib.util
from typing import Any, Sequence

from torch import nn

from .marks import mark


def install() -> None:
    """Let ``--bf16`` and ``--ddp-backend pytorch_ddp`` work on a CPU. Further calls do nothing."""
    _bf16_without_tpu()
    _data_parallel()


def _bf16_without_tpu() -> None:
    """Make ``--bf16`` on the command line mean bfloat16 on a GPU or CPU, as ``common.bf16=true`` does in Hydra.

    fairseq also sets ``tpu``, and fails if torch_xla is not installed. In this case no TPU can be meant.
    """
    from fairseq import options

    stock = options.parse_args_and_arch
    if getattr(stock, "bf16_without_tpu", False) or importlib.util.find_spec("torch_xla") is not None:
        return

    @functools.wraps(stock)
    def parse_args_and_arch(*args: Any, **kwargs: Any) -> Any:
        parsed = stock(*args, **kwargs)
        options = parsed[0] if isinstance(parsed, tuple) else parsed  # a tuple with parse_known=True
        if getattr(options, "bf16", False):
            options.tpu = False
        return parsed

    options.parse_args_and_arch = mark(parse_args_and_arch, "bf16_without_tpu")


def _data_parallel() -> None:
    """Make ``--ddp-backend pytorch_ddp``, fairseq's default, work with ``--cpu``.

    fairseq passes the index of a GPU to torch's DistributedDataParallel, which refuses it for a model on a CPU.
    """
    from fairseq.models import distributed_fairseq_model

    stock = distributed_fairseq_model.DistributedDataParallel
    if getattr(stock, "also_on_a_cpu", False):
        return

    class DistributedDataParallel(stock):  # type: ignore[valid-type, misc]  # a class that fairseq names
        also_on_a_cpu = True

        def __init__(
            self,
            module: nn.Module,
            device_ids: Sequence[int] | None = None,
            output_device: int | None = None,
            **options: Any,
        ) -> None:
            if all(parameter.device.type == "cpu" for parameter in module.parameters()):
                device_ids = output_device = None
            super().__init__(module, device_ids=device_ids, output_device=output_device, **options)

    distributed_fairseq_model.DistributedDataParallel = DistributedDataParallel
