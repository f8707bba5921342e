"""AdamW with warm-up and linear decay; the moments exist from the start, to be restored in place."""

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
    """Return the learning rate of a step (0 to ``steps`` − 1): linear warm-up, then linear decay to zero."""
    warmup = round(schedule.warmup * steps) if schedule.warmup < 1 else int(schedule.warmup)
    if step < warmup:
        return schedule.learning_rate * (step + 1) / warmup
    return schedule.learning_rate * (steps - step) / max(1, steps - warmup)
