"""The options of dense systems, and what they decide of a checkpoint's templates and engine."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Literal

from adapters import repllama
from adapters.llara import templates as llara
from adapters.options import configure, unnamed
from adapters.prompts import PromptConfig, find_entry
from llara_eval.checkpoints.load import LoadOptions
from llara_eval.checkpoints.own_code import Permissions
from llara_eval.encoding.engines import Name as Engine
from llara_eval.encoding.templates import Pooling, Templates
from llara_eval.search.compressed import VectorFormat

TEMPLATES: Mapping[str, Callable[[Any], Templates]] = MappingProxyType(
    {
        "llara": llara.templates,
        "llara-symmetric": llara.symmetric,
        "llara-paper": partial(llara.templates, prompts=llara.PAPER),
        "llara-paper-acl": partial(llara.templates, prompts=llara.PAPER_ACL),
        "repllama": repllama.templates,
    }
)
"""Name → function that makes the templates from a checkpoint's tokenizer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseConfig(PromptConfig):
    """Options of a dense retriever; None leaves the choice to the checkpoint or the machine.

    Attributes:
        max_length: The most tokens of a query or document, template included.
        query_length: The most tokens of a query, template included; None takes ``max_length``.
        document_length: The most tokens of a document, template included; None takes ``max_length``.
        length_of: What limits of length count: the whole ``sequence``, or the ``text`` apart from the
            template, as in the example of the released LLaRA code.
        pooling: ``mean``, ``first`` or ``last``.
        normalize: Whether vectors are divided by their norm, so that scores are cosines.
        template: Name of the templates that replace those of the checkpoint, see :data:`TEMPLATES`.
        dtype: The dtype of weights and products; scores are always float32.
        batch_tokens: Tokens of one batch, padding included.
        compile: Whether the model's layers are compiled first (a minute or two on a CPU, then about a tenth
            faster).
        backend: The engine that computes the vectors, see :mod:`llara_eval.encoding.engines`; None chooses
            the fastest whose vectors are those of float32, see :mod:`llara_eval.encoding.choice`.
        search: The proposer of candidates in the exact search, ``torch`` or ``faiss``.
        vectors: ``fp16`` for an exact search; ``int8`` or ``binary`` for a search of codes, whose best
            documents are then scored exactly.
        dims: The number of leading dimensions that are kept.
        name: The name of the system, instead of the folder's.
        revision: The revision of a hub name.
        trust_remote_code: Whether code that the checkpoint brings may run.
        bin_weights: Whether weights in ``pytorch_model.bin`` are read, where there are no others.
    """

    max_length: int | None = None
    query_length: int | None = None
    document_length: int | None = None
    length_of: Literal["sequence", "text"] = "sequence"
    pooling: Pooling | None = None
    normalize: bool | None = None
    template: Literal["llara", "llara-symmetric", "llara-paper", "llara-paper-acl", "repllama"] | None = None
    dtype: str | None = unnamed(None)
    batch_tokens: int | None = unnamed(None)
    compile: bool = unnamed(False)
    backend: Engine | None = unnamed(None)
    search: str = unnamed("torch")
    vectors: VectorFormat = "fp16"
    dims: int | None = None
    name: str | None = unnamed(None)
    revision: str | None = unnamed(None)
    trust_remote_code: bool = unnamed(False)
    bin_weights: bool = unnamed(False)

    @property
    def allowed(self) -> Permissions:
        """What the user allows beyond tensors in safetensors and classes of the libraries."""
        return Permissions(code=self.trust_remote_code, bin_weights=self.bin_weights)

    def load_options(self, dataset: str | None = None, text_length: int | None = None) -> LoadOptions:
        """Return what decides the templates and the engine, on a data set with this limit of a document.

        Raises:
            DataError: The set of prompts has none for the data set.
        """
        fields = ("max_length", "query_length", "document_length", "pooling", "normalize", "length_of")
        changes = {field: getattr(self, field) for field in fields}
        return LoadOptions(
            changes={key: value for key, value in changes.items() if value is not None},
            text_length=text_length,
            make_templates=TEMPLATES[self.template] if self.template else None,
            recognisers=(llara.recognise, repllama.recognise),
            prompts=self.prompt_options,
            entry=find_entry(self.prompt_options, dataset),
            engine=self.backend or "transformers",
        )


def named_config(base: Mapping[str, Any], options: Mapping[str, Any], name: str) -> tuple[DenseConfig, str]:
    """Return the options, and the system's name with its set of prompts and with the options it names."""
    name = str(options.get("name") or name)
    config, full_name = configure(DenseConfig, base, options, name)
    return config, f"{name}{config.prompt_options.label}{full_name.removeprefix(name)}"


def without_package(base: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of an entry in the table of systems, without the place of its weights."""
    return {key: value for key, value in base.items() if key not in ("package", "within")}


def configured(model: str, base: Mapping[str, Any], options: Mapping[str, Any]) -> DenseConfig:
    """Return the options of a system: those of its entry in the table, and those of the user."""
    return configure(DenseConfig, without_package(base), options, model)[0]
