"""The settings of a training run: frozen dataclasses, most of which a recipe of the adapters fills."""

from dataclasses import dataclass, field
from math import ceil, inf
from pathlib import Path
from typing import Literal, get_args

from llara_eval.checkpoints.own_code import Permissions
from llara_eval.core.errors import UsageError
from llara_eval.core.existing import OnExistingRun
from llara_eval.core.protocols import SILENT, Progress
from llara_eval.datasets.dataset import Dataset

WarmupShape = Literal["linear", "log"]
Negatives = Literal["batch", "gathered", "device", "group"]

_MICRO_TOKENS = {"cpu": 1_024, "cuda": 16_384}
"""By device type. On a CPU 1,024 is as fast as any (docs/performance.md); memory grows with it."""

_SEEDS = 1 << 63
"""PyTorch takes seeds of 64 bits with a sign."""

ATTENTION_AND_MLP = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""Names of the linear layers of a LLaMA-type decoder layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoRA:
    """A LoRA adapter: low-rank adaptation (Hu et al. 2021, arXiv 2106.09685).

    Attributes:
        rank: Rank r of the adapter's matrices.
        alpha: Scale: the adapter's output is multiplied by alpha / rank.
        dropout: Dropout on the adapter's input.
        targets: Names of the linear layers that get an adapter.
    """

    rank: int
    alpha: int
    dropout: float
    targets: tuple[str, ...] = ATTENTION_AND_MLP

    def __post_init__(self) -> None:
        """Refuse settings that make no adapter.

        Raises:
            UsageError: A value is out of range.
        """
        if self.rank < 1 or self.alpha < 1 or not 0 <= self.dropout < 1:
            raise UsageError(
                f"LoRA needs a rank and an alpha of at least 1 and a dropout from 0 to below 1, found "
                f"{self.rank}, {self.alpha}, {self.dropout}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The settings of the optimizer steps, the same for adaptation and fine-tuning.

    Attributes:
        learning_rate: The highest learning rate, after warm-up; it decays linearly to zero.
        batch_size: Rows of an optimizer step, over all processes.
        steps: Optimizer steps; None takes as many as ``epochs`` passes over the data need.
        epochs: Passes over the data, where ``steps`` is None.
        drop_last: Whether the rows of an epoch that do not fill a batch are left out, as the released codes
            do; otherwise the batch is filled with rows of the next epoch.
        warmup: Length of the warm-up: below 1 a share of all steps, otherwise a number of steps.
        warmup_shape: ``linear``, or ``log`` for the shape of DeepSpeed's ``WarmupDecayLR`` in the released
            codes; see :func:`llara_eval.training.optimizer.learning_rate`.
        weight_decay: Weight decay of matrices (vectors such as norms have none).
        max_grad_norm: Largest L2 norm of the gradient; a larger gradient is scaled down to it.
        lora: The LoRA adapter that is trained; None trains every parameter.
        seed: Seed of data order, negatives, dropout and new parameters.
    """

    learning_rate: float
    batch_size: int
    steps: int | None = None
    epochs: float = 1.0
    drop_last: bool = False
    warmup: float = 0.1
    warmup_shape: WarmupShape = "linear"
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    lora: LoRA | None = None
    seed: int = 42

    def __post_init__(self) -> None:
        """Refuse values with which no run is possible.

        Raises:
            UsageError: A value is out of range.
        """
        for name in ("learning_rate", "batch_size", "steps", "epochs", "max_grad_norm"):
            value = getattr(self, name)
            if value is not None and not 0 < value < inf:
                raise UsageError(f"{name} must be a number above 0, found {value}")
        for name in ("warmup", "weight_decay", "seed"):
            value = getattr(self, name)
            if not 0 <= value < inf:
                raise UsageError(f"{name} must not be negative, found {value}")
        if self.seed >= _SEEDS:
            raise UsageError(f"seed must be below 2^63, found {self.seed}")

    def total_steps(self, rows: int) -> int:
        """Return the number of optimizer steps for data of ``rows`` rows.

        Raises:
            UsageError: There are fewer rows than one batch has.
        """
        if rows < self.batch_size:
            raise UsageError(
                f"{rows} rows are fewer than one batch of {self.batch_size}: "
                "give more rows or a smaller batch_size"
            )
        if self.steps:
            return self.steps
        batches = rows // self.batch_size if self.drop_last else rows / self.batch_size
        return max(1, round(self.epochs * batches))

    def warmup_steps(self, steps: int) -> int:
        """Return the length of the warm-up of a run of ``steps`` optimizer steps."""
        return ceil(self.warmup * steps) if self.warmup < 1 else int(self.warmup)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """The objective of contrastive fine-tuning.

    ``gathered`` and ``device`` compute what a run on several devices computes whose embeddings are not, or
    only without gradients, exchanged. They need not be devices of this run: an optimizer step's queries, in
    the order of the data, are divided into blocks, and the result depends on the size of a block alone.

    Attributes:
        temperature: The divisor of cosines (InfoNCE, van den Oord et al. 2018, arXiv 1807.03748).
        group_size: Passages of a query: one positive, and hard negatives as far as the data has them.
        query_length: Most tokens of a query, template included.
        passage_length: Most tokens of a passage, template included.
        negatives: The passages that a query is compared with beside its own: those of the whole ``batch``;
            those ``gathered`` from the devices at a time; those of its ``device``; or, with ``group``, none.
            With ``gathered``, gradients are divided by ``devices``, since each device sends them through its
            own embeddings alone and the mean over devices is taken.
        device_batch: Queries of a device at a time, for ``gathered`` and ``device``.
        devices: Devices, for ``gathered``.
        mask_known: Whether equal passages count once, and no positive of a query is its negative. Without
            it, as in the released codes, a row's negatives are taken as they are, and repeated where they
            are fewer than ``group_size`` − 1.
        distillation: Weight of the KL divergence from the teacher's scores (``pos_scores``,
            ``neg_scores``); the contrastive term has weight 1.
    """

    temperature: float = 0.01
    group_size: int = 16
    query_length: int = 64
    passage_length: int = 160
    negatives: Negatives = "batch"
    device_batch: int = 1
    devices: int = 8
    mask_known: bool = True
    distillation: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values with which no run is possible.

        Raises:
            UsageError: A value is out of range.
        """
        if not (0 < self.temperature < inf and self.group_size >= 1 and 0 <= self.distillation < inf):
            raise UsageError(
                f"temperature must be above 0, group_size at least 1 and distillation not negative, found "
                f"{self.temperature}, {self.group_size}, {self.distillation}"
            )
        if min(self.device_batch, self.devices) < 1:
            raise UsageError(
                f"device_batch and devices must be at least 1, found {self.device_batch}, {self.devices}"
            )

    def block(self, batch_size: int) -> int:
        """Return how many consecutive queries of a batch are compared with each other's passages.

        Raises:
            UsageError: The batch is not a multiple of that.
        """
        sizes = {
            "batch": batch_size,
            "gathered": self.device_batch * self.devices,
            "device": self.device_batch,
            "group": 1,
        }
        size = sizes[self.negatives]
        if batch_size % size:
            raise UsageError(
                f"negatives={self.negatives} compares {size} queries at a time, and a batch of {batch_size} "
                "is no multiple of that: change batch_size, device_batch or devices"
            )
        return size

    @property
    def gradient_share(self) -> float:
        """The factor of gradients; see ``negatives``."""
        return 1 / self.devices if self.negatives == "gathered" else 1.0


def usual_micro_tokens() -> int:
    """Return the usual number of tokens of a micro-batch on this machine's device."""
    from llara_eval.encoding.devices import default_device

    return _MICRO_TOKENS.get(default_device().type, 4_096)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """The settings of a run that do not change its objective: output, memory, speed and evaluation.

    Attributes:
        output: The folder of the run, and of the checkpoint it ends with.
        micro_tokens: Most tokens of a micro-batch, padding included.
        dtype: The dtype of matrix products, ``float32`` or ``bfloat16`` (weights stay float32); None takes
            the one that the device computes fast.
        gradient_checkpointing: Whether activations are computed twice instead of being kept.
        compiled: Whether the layers are compiled, which takes a minute or two, and saves time and memory
            afterwards.
        merge: Whether the LoRA adapter is merged into the base model in the end; otherwise it is saved alone.
        save_minutes: Minutes between two training states.
        evaluate_every: Optimizer steps between two evaluations; 0 evaluates before and after training only.
        validate_on: A small data set on which each evaluation measures nDCG@10.
        on_existing: ``only-missing`` continues a run or keeps a finished one, ``always`` starts again,
            ``refuse`` ends with an error.
        offline: Whether downloads are forbidden.
        trust_remote_code: Whether code that the model brings may run.
        progress: The display of progress.
    """

    output: Path
    micro_tokens: int = field(default_factory=usual_micro_tokens)
    dtype: str | None = None
    gradient_checkpointing: bool = False
    compiled: bool = False
    merge: bool = False
    save_minutes: float = 15.0
    evaluate_every: int = 0
    validate_on: Dataset | None = None
    on_existing: OnExistingRun = "only-missing"
    offline: bool = False
    trust_remote_code: bool = False
    progress: Progress = SILENT

    @property
    def allowed(self) -> Permissions:
        """What may be read and run of the model, and of the checkpoint that is saved."""
        return Permissions(code=self.trust_remote_code)

    def __post_init__(self) -> None:
        """Refuse settings with which no run is possible.

        Raises:
            UsageError: ``on_existing`` is unknown, or a number is out of range.
        """
        if self.on_existing not in get_args(OnExistingRun):
            raise UsageError(
                f"on_existing {self.on_existing!r} is not one of {', '.join(get_args(OnExistingRun))}"
            )
        if min(self.micro_tokens, self.evaluate_every) < 0 or not self.save_minutes >= 0:
            raise UsageError(
                f"micro_tokens, save_minutes and evaluate_every must not be negative, found "
                f"{self.micro_tokens}, {self.save_minutes}, {self.evaluate_every}"
            )
