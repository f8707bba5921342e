"""The engine of OpenVINO: padded batches on a processor, by a graph that is converted once and kept on disk.

The graph is traced from the stock model of transformers, with float32 weights and dynamic shapes. OpenVINO
multiplies in float32 or in bfloat16; in bfloat16 it rounds less often than torch does, since it keeps sums,
norms and the softmax in float32.

Shapes: B sequences, L tokens, D width.
"""

import hashlib
import importlib.metadata
import logging
import shutil
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from llara_eval.core.errors import LlaraEvalError, MissingPartError, UsageError
from llara_eval.core.folders import atomic_folder
from llara_eval.core.leases import Leases
from llara_eval.core.paths import home
from llara_eval.core.sealed import canonical, is_whole, seal_folder
from llara_eval.encoding.model_facts import ModelFacts, evaluating
from llara_eval.encoding.padded import Tokens, batches_of, pad
from llara_eval.encoding.templates import Side, Template

logger = logging.getLogger(__name__)

_GRAPH = "model.xml"

_LONGEST = 3_600.0
"""Seconds after which the conversion of another process counts as abandoned."""

_PRECISIONS = {torch.float32: "f32", torch.bfloat16: "bf16"}
"""Dtype of products → OpenVINO's name."""


def import_openvino() -> Any:
    """Import OpenVINO, without the package by which it reports its use over the network.

    Raises:
        MissingPartError: OpenVINO is not installed.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # as if it were not installed
    try:
        import openvino
    except ImportError as error:
        raise MissingPartError(f"this engine needs: pip install openvino ({error})") from error
    return openvino


def openvino_version() -> str:
    """Return the version of OpenVINO; "" if it is not installed."""
    try:
        return importlib.metadata.version("openvino")
    except importlib.metadata.PackageNotFoundError:
        return ""


class OpenVinoModel:
    """An engine that runs a model of transformers in OpenVINO.

    Args:
        model: The transformers base model, with float32 weights, on the CPU.
        facts: The facts about it.
        dtype: The dtype of products.
        content: The content hash of the checkpoint; the graph is kept by it.

    Raises:
        MissingPartError: OpenVINO is not installed.
        UsageError: OpenVINO cannot run the model, or not with this dtype.
    """

    name, pads = "openvino", True

    def __init__(self, model: Any, facts: ModelFacts, dtype: torch.dtype, content: str) -> None:
        openvino = import_openvino()
        if dtype not in _PRECISIONS:
            raise UsageError(f"OpenVINO multiplies in float32 or bfloat16 on a processor, not in {dtype}")
        self.dtype, self.width, self.device = dtype, facts.width, torch.device("cpu")
        self._kind, self._causal = type(model).__name__, facts.causal
        graph = _kept_graph(openvino, model, facts, content)
        with _explained(self._kind):
            compiled = openvino.Core().compile_model(
                graph,
                "CPU",
                {
                    "INFERENCE_PRECISION_HINT": _PRECISIONS[dtype],
                    "INFERENCE_NUM_THREADS": str(torch.get_num_threads()),
                    "NUM_STREAMS": "1",
                    "ENABLE_CPU_PINNING": "NO",  # two programs would be pinned to the same cores
                },
            )
            self._request = compiled.create_infer_request()

    def embeddings(
        self, sequences: Sequence[Tokens], template: Template, sizes: Sequence[int], side: Side
    ) -> Iterator[Tensor]:
        """Yield the embeddings, (B, D) float32, of one batch after the other.

        Raises:
            UsageError: OpenVINO cannot run the model on a batch.
        """
        for batch in batches_of(sequences, sizes):
            ids, mask = pad(batch)
            if (
                self._causal
            ):  # no token sees the padding; a row of a window that sees nothing else would be NaN
                mask.fill_(1)
            with _explained(self._kind):
                self._request.infer([ids.numpy(), mask.numpy()])
            hidden = torch.from_numpy(self._request.get_output_tensor(0).data)  # (B, L, D)
            spans = [template.pooled_span(len(sequence)) for sequence in batch]
            parts = (states[begin:end] for states, (begin, end) in zip(hidden, spans, strict=True))
            pooled = torch.stack([part.mean(0) for part in parts])
            yield normalize(pooled, dim=-1) if template.normalize else pooled


@contextmanager
def _explained(kind: str) -> Iterator[None]:
    """Turn any error of OpenVINO in the block into one that names the kind of the model.

    Raises:
        UsageError: OpenVINO raised an error.
    """
    try:
        yield
    except (LlaraEvalError, MemoryError):
        raise
    except Exception as error:  # of its own library, which has no class of errors
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UsageError(f"OpenVINO cannot run {kind}: {lines[0]}") from error


def _kept_graph(openvino: Any, model: Any, facts: ModelFacts, content: str) -> Path:
    """Return the file of a model's graph, which is converted if it is not kept from before."""
    import transformers

    versions = {library.__name__: library.__version__ for library in (openvino, torch, transformers)}
    key = hashlib.sha256(canonical({"checkpoint": content, **versions})).hexdigest()
    folder = home() / "openvino" / key[:32]
    if not is_whole(folder):
        with Leases(home() / "leases", expires=_LONGEST).hold(f"openvino-{folder.name}", wait=True):
            if not is_whole(folder):
                shutil.rmtree(folder, ignore_errors=True)  # a damaged one
                logger.info("converting %s for OpenVINO", type(model).__name__)
                _convert(openvino, model, facts, folder)
    return folder / _GRAPH


def _convert(openvino: Any, model: Any, facts: ModelFacts, folder: Path) -> None:
    ids = torch.arange(18).reshape(2, 9) % model.config.vocab_size
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    with atomic_folder(folder) as temporary, _explained(type(model).__name__):
        with evaluating(model), torch.no_grad(), warnings.catch_warnings(action="ignore"):
            graph = openvino.convert_model(
                _HiddenStates(model, causal=facts.causal),
                example_input=(ids, mask),
                input=[[-1, -1], [-1, -1]],
            )
        openvino.save_model(graph, temporary / _GRAPH, compress_to_fp16=False)
        seal_folder(temporary)


class _HiddenStates(nn.Module):
    """A model as a function of two tensors, which can be traced."""

    def __init__(self, model: Any, *, causal: bool) -> None:
        super().__init__()
        self._model = model
        self._options = {"use_cache": False} if causal else {}

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the last hidden states, (B, L, D), of padded sequences, (B, L) each."""
        output = self._model(input_ids=input_ids, attention_mask=attention_mask, **self._options)
        hidden: Tensor = output.last_hidden_state
        return hidden
