"""The engines that compute embeddings: transformers, OpenVINO, sentence-transformers and vLLM.

All compute with the same token ids from the same templates. Each is compared with the stock model of
transformers before a corpus is encoded, unless the stock model cannot pool; see
:mod:`llara_eval.encoding.check`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from llara_eval.core.errors import MissingPartError, UsageError
from llara_eval.core.reading import is_present
from llara_eval.encoding.encoder import Encoder, Engine
from llara_eval.encoding.model_facts import ModelFacts, bare_facts, evaluating
from llara_eval.encoding.openvino_model import OpenVinoModel
from llara_eval.encoding.packed import LastLayer, PackedModel, PackedSequences, embed_packed
from llara_eval.encoding.packed_attention import has_kernel, using_packed_attention
from llara_eval.encoding.padded import PaddedModel, Tokens, batches_of, embed, pad
from llara_eval.encoding.prompts import Origin
from llara_eval.encoding.templates import Side, Template, Templates

Name = Literal["transformers", "openvino", "sentence-transformers", "vllm"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What an engine is made from.

    Attributes:
        folder: The folder of the checkpoint.
        content: Returns the content hash of the checkpoint.
        model: The stock model of transformers.
        tokenizer: Its tokenizer.
        templates: Its templates.
        origin: The sources of the templates.
        facts: The facts about the model.
        device: The device on which to compute.
        dtype: The dtype of products.
        read_modules: Reads a sentence-transformers folder, see
            :func:`llara_eval.checkpoints.libraries.read_modules`.
        trust_code: Whether code in the folder may run.
    """

    folder: Path
    content: Callable[[], str]
    model: Any
    tokenizer: Any
    templates: Templates
    origin: Origin
    facts: ModelFacts
    device: torch.device
    dtype: torch.dtype
    read_modules: Callable[..., Any]
    trust_code: bool = False


def find_facts(model: Any, templates: Templates) -> ModelFacts:
    """Return the facts about a model, found in at most three forward passes that do not change the model.

    Args:
        model: A transformers base model, on its device.
        templates: The templates, which limit the length of sequences.
    """
    facts = bare_facts(model)
    return replace(facts, packs=can_pack(model, templates, causal=facts.causal))


@torch.no_grad()
def can_pack(model: Any, templates: Templates, *, causal: bool, precision: torch.dtype | None = None) -> bool:
    """Return whether a model gives equal vectors in packed and padded batches; four sequences are tried.

    It does not if its attention cannot be replaced or has a window, a soft cap or sinks, if it takes no
    position ids, or if the device has no kernel.

    Args:
        model: A transformers base model, on its device.
        templates: The templates, which limit the length of sequences.
        causal: Whether tokens attend to earlier ones only.
        precision: The dtype of products; None means that of the weights.
    """
    config, device, dtype = model.config, model.device, precision or model.dtype
    longest = longest_of(templates)
    windows = [getattr(config, name, None) for name in ("sliding_window", "local_attention")]
    if any(window and window < longest for window in windows) or not has_kernel(device, dtype):
        return False
    random, template = np.random.default_rng(0), Template(pooling="last")
    sequences = [random.integers(config.vocab_size, size=length) for length in (9, 4, 4, 1)]
    batch = PackedSequences(sequences, template, device).batch(0, len(sequences))
    with evaluating(model), torch.autocast(device.type, dtype, enabled=dtype != model.dtype):
        try:
            with using_packed_attention(model), LastLayer(model) as last_layer:
                last_layer.positions = batch.pooled
                packed = embed_packed(model, batch, template, causal=causal)
        except (AttributeError, RuntimeError, TypeError, ValueError):
            return False
        padded = embed(model, sequences, template, causal=causal)
    floor = 0.9999 if dtype == torch.float32 else 0.99
    return bool((torch.nn.functional.cosine_similarity(packed, padded) >= floor).all())


class SentenceTransformersModel:
    """An engine that runs all modules of a sentence-transformers folder, pooling included.

    Raises:
        UsageError: The folder is not a sentence-transformers folder, or pools several slots, or normalises
            vectors that shall not be.
    """

    name, pads = "sentence-transformers", True

    def __init__(self, source: Source) -> None:
        folder, templates = source.folder, source.templates
        if not is_present(folder / "modules.json"):
            raise UsageError(
                f"{folder} is not a sentence-transformers folder; write one with "
                "llara-eval export --format sentence-transformers, or leave out --backend"
            )
        if max(templates.query.slots, templates.document.slots) > 1:
            raise UsageError(
                f"{folder} pools several slots, to which an export gives additional token ids: "
                "leave out --backend"
            )
        self.device, self.dtype = source.device, source.dtype
        self._model = source.read_modules(
            folder, device=self.device, dtype=self.dtype, trusted=source.trust_code
        )
        last = type(list(self._model)[-1]).__name__
        if last == "Normalize" and not templates.document.normalize:
            raise UsageError(f"{folder}: its own modules normalise the vectors: leave out normalize=false")
        self._tokenizer = source.tokenizer
        self.width = int(self._model.get_embedding_dimension() or 0)

    @torch.inference_mode()
    def embeddings(
        self, sequences: Sequence[Tokens], template: Template, sizes: Sequence[int], side: Side
    ) -> Iterator[Tensor]:
        """Yield the embeddings, (B, D) float32, of one batch after the other."""
        prompt_length = template.own_tokens(self._tokenizer) - len(template.suffix_ids(self._tokenizer))
        for batch in batches_of(sequences, sizes):
            ids, mask = pad(batch)
            features = {"input_ids": ids.to(self.device), "attention_mask": mask.to(self.device)}
            output = self._model({**features, "prompt_length": prompt_length}, task=side)
            embeddings = output["sentence_embedding"].float()
            yield normalize(embeddings, dim=-1) if template.normalize else embeddings


class VllmModel:
    """An engine that pools the hidden states that vLLM computes; vLLM chooses its device by itself.

    Raises:
        MissingPartError: vLLM is not installed.
    """

    name, pads = "vllm", False

    def __init__(self, source: Source) -> None:
        try:
            import vllm
        except ImportError as error:
            needed = "--backend vllm needs: pip install 'llara-eval[vllm]'"
            raise MissingPartError(f"{needed} ({error})") from error
        self._model = vllm.LLM(
            model=str(source.folder),
            runner="pooling",
            convert="embed",
            dtype=str(source.dtype).removeprefix("torch."),
            max_model_len=(longest := longest_of(source.templates)),
            trust_remote_code=False,
            enable_prefix_caching=False,  # no hidden states are returned for a cached prefix
        )
        self._params = vllm.PoolingParams(use_activation=False)  # the hidden states are not normalised
        self.device, self.dtype = source.device, source.dtype
        self.width = int(self._model.llm_engine.model_config.get_hidden_size())
        self._longest = longest

    def embeddings(
        self, sequences: Sequence[Tokens], template: Template, sizes: Sequence[int], side: Side
    ) -> Iterator[Tensor]:
        """Yield the embeddings, (B, D) float32, of one batch after the other."""
        if template.max_length > self._longest:
            raise UsageError(
                f"vLLM was started for {self._longest} tokens, and these texts have {template.max_length}: "
                f"evaluate this data set by a command of its own, or with --max-length {self._longest}"
            )
        for batch in batches_of(sequences, sizes):
            prompts = [{"prompt_token_ids": [int(token) for token in sequence]} for sequence in batch]
            outputs = self._model.encode(prompts, self._params, pooling_task="token_embed", use_tqdm=False)
            pooled = []
            for output, sequence in zip(outputs, batch, strict=True):
                hidden = output.outputs.data  # (L, D)
                if len(hidden) != len(sequence):
                    raise UsageError(
                        f"vLLM returned {len(hidden)} hidden states for {len(sequence)} tokens; "
                        "its pooling of this model cannot be used"
                    )
                begin, end = template.pooled_span(len(sequence))
                pooled.append(hidden[begin:end].float().mean(0))
            embeddings = torch.stack(pooled).cpu()
            yield normalize(embeddings, dim=-1) if template.normalize else embeddings


def longest_of(templates: Templates) -> int:
    """Return the most tokens of a sequence of either side."""
    return max(templates.query.max_length, templates.document.max_length)


def open_engine(name: Name, source: Source) -> Engine:
    """Return an engine that computes a checkpoint's embeddings.

    Raises:
        UsageError: The engine cannot run the checkpoint.
        MissingPartError: The engine is not installed.
    """
    if name == "transformers":
        return (PackedModel if source.facts.packs else PaddedModel)(source.model, source.facts)
    if name == "openvino":
        return OpenVinoModel(source.model, source.facts, source.dtype, source.content())
    if is_present(source.folder / "adapter_config.json"):
        raise UsageError(
            f"{source.folder} holds a LoRA adapter, which {name} would ignore: leave out --backend"
        )
    if name == "vllm":
        if source.trust_code:
            raise UsageError("--trust-remote-code runs code in transformers and sentence-transformers only")
        return VllmModel(source)
    return SentenceTransformersModel(source)


def encoder_of(source: Source, name: Name = "transformers", batch_tokens: int | None = None) -> Encoder:
    """Return the encoder of a checkpoint; see :func:`open_engine` and :class:`Encoder`."""
    return Encoder(
        source.model,
        source.tokenizer,
        source.templates,
        batch_tokens=batch_tokens,
        origin=source.origin,
        facts=source.facts,
        engine=open_engine(name, source),
    )
