"""AdamW with warm-up and linear decay; the moments exist from the start, to be restored in place."""

import math

import torch
from torch import Tensor, nn

from llara_eval.training.config import Schedule


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that are trained, by name; a parameter that is used twice has one name."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def make_optimizer(model: nn.Module, schedule: Schedule) -> torch.optim.AdamW:
    """Return AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) over the trained parameters.

    Betas and epsilon are PyTorch's defaults, 0.9, 0.999 and 1e-8, as in the released recipes. Vectors
    (norms, biases) have no weight decay.
    """
    weights = list(trained_parameters(model).values())
    groups = [
        {"params": [weight for weight in weights if weight.ndim > 1], "weight_decay": schedule.weight_decay},
        {"params": [weight for weight in weights if weight.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=schedule.learning_rate, fused=True
    )
    for weight in weights:
        moments = {name: torch.zeros_like(weight) for name in ("exp_avg", "exp_avg_sq")}
        optimizer.state[weight] = {"step": torch.zeros((), device=weight.device), **moments}
    return optimizer


def training_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return every tensor that an optimizer step changes, by name; loading into them restores a run."""
    state: dict[str, Tensor] = {}
    for name, weight in trained_parameters(model).items():
        state[f"model.{name}"] = weight.detach()
        for key, value in optimizer.state[weight].items():
            state[f"optimizer.{key}.{name}"] = value
    return state


def learning_rate(step: int, steps: int, schedule: Schedule) -> float:
    """Return the learning rate of an optimizer step: warm-up, then linear decay to zero.

    With W the steps of the warm-up, T all steps, and s the number of steps made before, the share of the
    highest rate is (s + 1) / W below W, then (T − s) / (T − W). The shape ``log`` is that of DeepSpeed's
    ``WarmupDecayLR`` with its default ``warmup_type`` (deepspeedai/DeepSpeed at edaa7221,
    deepspeed/runtime/lr_schedules.py), where the scheduler moves after the optimizer and W is at least 2:
    0 in the first step, then with i = s − 1: ln(i + 1) / ln W below W, and (T − i) / (T − W) afterwards.

    Args:
        step: s, from 0 to ``steps`` − 1.
        steps: T.
        schedule: The highest rate, and length and shape of the warm-up.
    """
    warmup = schedule.warmup_steps(steps)
    if schedule.warmup_shape == "log":
        warmup = max(2, warmup)
        done = step - 1
        if done < 0:
            return 0.0
        if done < warmup:
            return schedule.learning_rate * math.log(done + 1) / math.log(warmup)
        return schedule.learning_rate * (steps - done) / max(1, steps - warmup)
    if step < warmup:
        return schedule.learning_rate * (step + 1) / warmup
    return schedule.learning_rate * (steps - step) / max(1, steps - warmup)
