"""Adaptation: a base model and plain text → a checkpoint that embeds texts."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch

from adapters import find_checkpoint
from adapters.llara.batches import Reader
from adapters.llara.config import USUAL_LENGTH, Adaptation
from adapters.llara.data import read_rows
from adapters.llara.joint import Frame
from adapters.llara.objective import Adapt, AdaptationModel
from adapters.llara.stop_words import words_of
from adapters.llara.templates import add_tokens, fit_embeddings, templates
from adapters.llara.verify_joint import require_isolation
from llara_eval.checkpoints.folder import Checkpoint
from llara_eval.checkpoints.load import read_model
from llara_eval.core.paths import home
from llara_eval.encoding.compile import compile_layers
from llara_eval.encoding.model_facts import max_positions, require_positions
from llara_eval.planning.training import SAMPLE, Plan, make_plan
from llara_eval.training.checkpoint import precision_of, prepare
from llara_eval.training.config import Conditions, Schedule
from llara_eval.training.data import Rows
from llara_eval.training.distributed import distribute, processes, reshard
from llara_eval.training.job import Subject, carry_out
from llara_eval.training.output import check_output


@dataclass(frozen=True, slots=True)
class AdaptationRun:
    """Adaptation of a causal language model the LLaRA way (EBAE and EBAR in one pass).

    Attributes:
        model: The base model: a checkpoint folder, a GGUF file, a hub name, or a dense system's name.
        data: JSONL files of ``input``, ``output_summarize`` and ``output_predict``, or text to make such
            rows from: ``.txt``, or JSONL of ``text``; compressed or not.
        task: The task that the model learns; :mod:`adapters.llara.recipes` has those of the paper and of the
            released code.
        schedule: The settings of the optimizer steps.
        conditions: The output and the other conditions of the run.
        chunk_words: Words of a chunk, roughly, where rows are made from text.
        held_out: Rows at the end of the data that are not trained on; recall is measured on them.
    """

    model: str | Path
    data: Sequence[Path]
    task: Adaptation
    schedule: Schedule
    conditions: Conditions
    chunk_words: int = 500
    held_out: int = 0

    def plan(self) -> Plan:
        """Estimate what :meth:`run` will take.

        Raises:
            UsageError: As for :meth:`run`, as far as it shows without reading weights.
            DataError: The model is missing, or the data are malformed or too few.
        """
        checkpoint, task, rows, _ = self._inputs()
        tokenizer = checkpoint.tokenizer
        new_tokens = add_tokens(tokenizer, task.prompts.slot_tokens)
        reader = Reader(tokenizer, Frame.of(templates(tokenizer, task.prompts), tokenizer), task)
        texts, _ = reader.texts(rows.sample(SAMPLE))
        return make_plan(
            checkpoint,
            self.schedule,
            self.conditions,
            head=True,
            new_tokens=new_tokens,
            lengths=[len(text) + reader.around for text in texts],
            rows=len(rows),
        )

    def run(self) -> Path:
        """Adapt the model and save a checkpoint; a run that was interrupted is continued.

        Returns:
            The folder of the checkpoint, which is the output.

        Raises:
            UsageError: The output must not be written or holds another run, or the model cannot be adapted in
                one pass or has fewer positions than ``task.max_length``.
            DataError: The model is missing, or the data are malformed or too few.
            MissingPartError: The stop words are not installed.
            CheckFailedError: The loss is not finite, or the saved checkpoint gives other embeddings.
            KeyboardInterrupt: The run was interrupted; its training state is kept.
        """
        checkpoint, task, trained, held_out = self._inputs()
        with processes() as device:
            subject, objective = self._load(checkpoint, task, device)
            carry_out(
                subject,
                objective,
                trained,
                self.schedule,
                self.conditions,
                task={"stage": "adapt", "task": asdict(task), "held_out": self.held_out},
                measure=partial(objective.recall, list(held_out)) if held_out else None,
            )
        return self.conditions.output

    def _inputs(self) -> tuple[Checkpoint, Adaptation, Rows, Rows]:
        """Return the inputs, checked as far as is possible without reading weights.

        Returns:
            The checkpoint, the task with a length that the model can read, the rows to train on, and the rows
            that are held out.
        """
        conditions, cache = self.conditions, home() / "training"
        options = {"trust_remote_code": conditions.trust_remote_code}
        checkpoint = find_checkpoint(str(self.model), options, offline=conditions.offline)
        check_output(conditions, checkpoint.folder)
        checkpoint.require_head()
        self.task.block(self.schedule.batch_size)
        words_of(self.task.stop_words)
        max_length = self.task.max_length or min(USUAL_LENGTH, max_positions(checkpoint.config))
        require_positions(checkpoint.config, max_length=max_length)
        rows = read_rows(self.data, words=self.chunk_words, cache=cache, progress=conditions.progress)
        return checkpoint, replace(self.task, max_length=max_length), *rows.split(self.held_out)

    def _load(self, checkpoint: Checkpoint, task: Adaptation, device: torch.device) -> tuple[Subject, Adapt]:
        """Load the model, put a LoRA adapter on it if there is one, shard it, and check it for isolation."""
        conditions = self.conditions
        torch.manual_seed(self.schedule.seed)
        causal, tokenizer = read_model(checkpoint, dtype=torch.float32, head=True), checkpoint.tokenizer
        new_tokens = add_tokens(tokenizer, task.prompts.slot_tokens)
        fit_embeddings(causal, new_tokens)
        both = templates(tokenizer, task.prompts).within(max_positions(causal.config))
        model = prepare(
            causal, self.schedule.lora, new_tokens, gradient_checkpointing=conditions.gradient_checkpointing
        )
        if conditions.compiled:
            compile_layers(model, device)
        root = distribute(AdaptationModel(causal, task), device)
        objective = Adapt(
            root,
            tokenizer,
            both,
            micro_tokens=conditions.micro_tokens,
            precision=precision_of(conditions.dtype, device),
        )
        require_isolation(root, objective.reader.frame, both, objective.reader.max_length)
        reshard(root)
        return Subject.of(checkpoint, model, both), objective
