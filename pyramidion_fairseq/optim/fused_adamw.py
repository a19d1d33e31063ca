"""AdamW with a fused kernel that updates each parameter in one pass."""

# No postponed annotations, because fairseq reads the types of the config.
import ast
from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, List, Sequence

import torch
from fairseq.dataclass import FairseqDataclass
from fairseq.optim import FairseqOptimizer, register_optimizer
from fairseq.optim.adam import Adam
from omegaconf import II


@dataclass
class FusedAdamWConfig(FairseqDataclass):
    """Options of ``--optimizer fused_adamw``, with the names of fairseq's ``adam``."""

    adam_betas: Any = field(default=(0.9, 0.999), metadata={"help": "betas of AdamW"})
    adam_eps: float = field(default=1e-8, metadata={"help": "epsilon of AdamW"})
    weight_decay: float = field(default=0.0, metadata={"help": "weight decay"})
    lr: List[float] = II("optimization.lr")


@register_optimizer("fused_adamw", dataclass=FusedAdamWConfig)
class FusedAdamW(FairseqOptimizer):
    """torch's AdamW (Loshchilov and Hutter 2019) with its fused kernel, on a GPU and on a CPU.

    fairseq's ``adam`` makes about ten passes over each parameter, in Python. The update is the same except for
    epsilon, which fairseq adds before the bias correction of the second moment, not after it.

    Half-precision parameters (``--memory-efficient-fp16``, ``--memory-efficient-bf16``) use fairseq's optimizer, which
    keeps the moments in float32.

    Args:
        cfg: a :class:`FusedAdamWConfig`.
        params: parameters or parameter groups, as in torch's optimizers.
    """

    def __init__(self, cfg: FusedAdamWConfig, params: Iterable[Any]):
        super().__init__(cfg)
        params = list(params)
        tensors = [p for group in params for p in (group["params"] if isinstance(group, dict) else [group])]
        if any(p.dtype in (torch.float16, torch.bfloat16) for p in tensors):
            self._optimizer = Adam(params, **self.optimizer_config)
        else:
            self._optimizer = torch.optim.AdamW(params, fused=True, **self.optimizer_config)

    @property
    def optimizer_config(self) -> Dict[str, Any]:
        """Values that override the settings of a checkpoint when training is resumed."""
        betas, rates = self.cfg.adam_betas, self.cfg.lr
        return {
            "lr": rates[0] if isinstance(rates, Sequence) else rates,
            "betas": tuple(ast.literal_eval(betas) if isinstance(betas, str) else betas),
            "eps": self.cfg.adam_eps,
            "weight_decay": self.cfg.weight_decay,
        }

    @property
    def supports_flat_params(self) -> bool:
        """Parameters are updated independently, so they may be flattened."""
        return True
