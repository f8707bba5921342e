"""The engine that is chosen where the user names none: the fastest that gives the vectors of the stock model.

An engine is not used for a model if a cosine with the vectors of the stock model is below :data:`CLOSE`.
The others are timed in turn on the same texts. The order of :data:`TRIED` decides between engines of about
the same speed, so that a choice does not change with every measurement.
"""

import hashlib
import itertools
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from llara_eval.core.decode import decode
from llara_eval.core.errors import DataError, LlaraEvalError
from llara_eval.core.files import read_json, write_json
from llara_eval.core.provenance import processor
from llara_eval.core.sealed import canonical
from llara_eval.encoding.check import check
from llara_eval.encoding.devices import describe
from llara_eval.encoding.encoder import Encoder, Engine
from llara_eval.encoding.engines import Name, Source, open_engine
from llara_eval.encoding.openvino_model import openvino_version
from llara_eval.encoding.templates import SIDES

logger = logging.getLogger(__name__)

TRIED: tuple[Name, ...] = ("openvino", "transformers")
"""The engines that are tried on a processor, the preferred one first; the last is the stock model's."""

STOCK: Name = "transformers"

CLOSE = 0.99999
"""The lowest cosine with the stock model.

A lower limit would let numbers move: OpenVINO in bfloat16 has a lowest cosine of .99997, and nDCG@10 of
all-MiniLM-L6-v2 on ArguAna is .5028 with it instead of .5017.
"""

EQUAL = 1.15
"""An engine that is less than this many times faster is as fast."""

CHECKED = 4
"""Texts on which vectors are compared."""

TOKENS, ROUNDS = 2_048, 3
"""Tokens of the texts that are timed, and how often they are; the fastest round counts."""

COPIES = 4
"""The times that memory must hold the weights for another engine to be tried.

They are there once in the stock model, once in the graph, and in parts while the graph is made and compiled.
"""

WORTHWHILE = 60.0
"""Seconds that an encoding must take for other engines to be tried; they may have to convert the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What is kept of a choice.

    Attributes:
        engine: The name of the engine.
        seconds: Engine → seconds in which it encoded the texts.
        refused: Engine → why it is not used.
    """

    engine: Name
    seconds: Mapping[str, float] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Engines:
    """The engines of one checkpoint on this machine."""

    source: Source
    _opened: dict[Name, Engine] = field(default_factory=dict)

    def use(self, name: Name, stock: Encoder) -> Encoder:
        """Return the stock encoder with an engine, given by its name; each engine is opened once.

        Raises:
            UsageError: The engine cannot run the checkpoint.
            MissingPartError: The engine is not installed.
        """
        if name == STOCK:
            return stock
        if name not in self._opened:
            self._opened[name] = open_engine(name, self.source)
        return stock.with_engine(self._opened[name])

    def choose(self, stock: Encoder, texts: Sequence[str], count: int, folder: Path) -> Name:
        """Choose the engine for a collection.

        Args:
            stock: The encoder with the engine of the stock model.
            texts: The first texts, at least one.
            count: The number of texts of the collection.
            folder: The folder in which choices are kept.
        """
        few = texts[:CHECKED]
        if self.source.device.type != "cpu" or self.source.dtype != torch.float32 or not self._fits():
            return STOCK
        if _seconds(stock, few) / len(few) * count < WORTHWHILE:
            return STOCK
        file = folder / f"{self._key(stock)}.json"
        kept = _kept(file)
        if kept is not None and self._agreeing(stock, few, [kept])[0]:
            return kept
        encoders, refused = self._agreeing(stock, few, TRIED)
        sample = _sample(stock, texts)
        seconds = dict.fromkeys(encoders, float("inf"))
        for _ in range(ROUNDS):
            for name, encoder in encoders.items():
                seconds[name] = min(seconds[name], _seconds(encoder, sample))
        chosen = next(name for name, took in seconds.items() if took <= min(seconds.values()) * EQUAL)
        logger.info("the engine is %s: %s", chosen, {name: f"{took:.3f} s" for name, took in seconds.items()})
        write_json(file, {"engine": chosen, "seconds": seconds, "refused": refused})
        return chosen

    def _fits(self) -> bool:
        """Return whether the memory of this machine holds the weights as often as a conversion needs them."""
        weights: int = sum(weight.nbytes for weight in self.source.model.parameters())
        return COPIES * weights < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

    def _agreeing(
        self, stock: Encoder, texts: Sequence[str], names: Sequence[Name]
    ) -> tuple[dict[Name, Encoder], dict[str, str]]:
        """Return the encoders whose vectors are those of the stock model, and why each other is not used."""
        encoders: dict[Name, Encoder] = {}
        refused: dict[str, str] = {}
        for name in names:
            try:
                encoder = self.use(name, stock)
                if encoder is not stock:
                    check(encoder, [*texts, _longest(stock, texts)], floor=CLOSE)
            except LlaraEvalError as error:
                logger.info("%s is not used: %s", name, error)
                refused[name] = str(error)
            else:
                encoders[name] = encoder
        return encoders, refused

    def _key(self, stock: Encoder) -> str:
        """Return the hash of what decides the fastest engine: the model, its templates and this machine."""
        record = {
            "checkpoint": self.source.content(),
            "templates": stock.templates.as_json(),
            "processor": processor(),
            "openvino": openvino_version(),
            **describe(self.source.device),
        }
        return hashlib.sha256(canonical(record)).hexdigest()[:32]


def _kept(file: Path) -> Name | None:
    """Return the choice of an earlier measurement; None if there is none, or its file is damaged."""
    try:
        return decode(read_json(file), Choice, str(file)).engine
    except (OSError, DataError):
        return None


def _sample(encoder: Encoder, texts: Sequence[str]) -> list[str]:
    """Return the first texts, with about as many tokens as are timed."""
    lengths = map(len, encoder.templates.document.token_ids(encoder.tokenizer, texts))
    before = itertools.accumulate(lengths, initial=0)
    return [text for text, tokens in zip(texts, before, strict=False) if tokens < TOKENS]


def _longest(encoder: Encoder, texts: Sequence[str]) -> str:
    """Return a text of more tokens than are read: a graph that was traced on short texts may differ there."""
    limit = max(encoder.templates.of(side).max_length for side in SIDES)
    letters = max(1, sum(map(len, texts)))
    return " ".join(texts) * (1 + 8 * limit // letters)


def _seconds(encoder: Encoder, texts: Sequence[str]) -> float:
    """Return the seconds in which an encoder encodes texts as documents."""
    started = time.perf_counter()
    encoder.encode(texts, "document")
    return time.perf_counter() - started
