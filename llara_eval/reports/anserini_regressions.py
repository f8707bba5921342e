"""The scores that Anserini expects of its own BM25: the regression files inside the jar.

The files belong to the very Lucene that we run, so they take precedence over our table of published scores.
"""

import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from llara_eval.core.errors import DataError
from llara_eval.reports.published import PublishedScore

_FOLDER = "reproduce/from-document-collection/configs/"

_BEIR = re.compile(r"beir-v1\.0\.0-(cqadupstack-)?(.+)\.(flat|multifield)")

_MSMARCO = {
    "msmarco-v1-passage": "msmarco-passage/dev",
    "dl19-passage": "msmarco-passage/trec-dl-2019",
    "dl20-passage": "msmarco-passage/trec-dl-2020",
    "msmarco-v1-doc": "msmarco-document/dev",
    "dl19-doc": "msmarco-document/trec-dl-2019",
    "dl20-doc": "msmarco-document/trec-dl-2020",
}
"""Name of a regression file, without its ending → data set."""

_MODELS = {"bm25", "bm25-default", "bm25-tuned"}
"""The models of a regression file that are plain BM25; the others add relevance feedback."""

_DEFAULT = {"k1": "0.9", "b": "0.4"}
"""Anserini's own parameters, which hold where a model names none."""


def read(jar: Path) -> tuple[PublishedScore, ...]:
    """Read the expected values of BM25 on BEIR, MS MARCO and TREC-DL.

    Returns:
        Scores in the order of the file names; systems have the names of :mod:`llara_eval.reports.published`.
        The name of a measure says from which grade on a document is relevant, if that is not 1
        (``R(rel=2)@100``).

    Raises:
        DataError: The jar has no regression files, or one of them is malformed.
    """
    import yaml

    scores: list[PublishedScore] = []
    with zipfile.ZipFile(jar) as archive:
        for name in sorted(archive.namelist()):
            dataset = _dataset(name)
            if dataset is None:
                continue
            source = f"{jar.name}: {PurePosixPath(name).name}"
            try:
                regression = yaml.load(archive.read(name), Loader=yaml.CSafeLoader)
                scores += _scores(regression, dataset, source)
            except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
                raise DataError(f"{jar}: {name} is not a regression file ({error!r})") from error
    if not scores:
        raise DataError(f"{jar}: no regression files in {_FOLDER}; `pip install 'pyserini>=1.6,<2'` has them")
    return tuple(scores)


def _dataset(name: str) -> str | None:
    """Return the data set of a regression file; None for a file that is not one of plain BM25."""
    if not name.startswith(_FOLDER) or not name.endswith(".yaml"):
        return None
    stem = name.removeprefix(_FOLDER).removesuffix(".yaml")
    beir = _BEIR.fullmatch(stem)
    if beir:
        return f"beir/cqadupstack/{beir[2]}" if beir[1] else f"beir/{beir[2]}"
    return _MSMARCO.get(stem)


def _scores(regression: Mapping[str, Any], dataset: str, source: str) -> Iterator[PublishedScore]:
    """Yield the values of the plain models: one for each measure, since a file has one set of queries."""
    for model in regression["models"]:
        if model["name"] not in _MODELS:
            continue
        parameters = {**_DEFAULT, **dict(re.findall(r"-bm25\.(k1|b) (\S+)", model["params"]))}
        fields = "multifield" if "-fields " in model["params"] else "flat"
        system = "BM25 (Lucene, {}, k1={k1}, b={b})".format(fields, **parameters)
        for metric in regression["metrics"]:
            (value,) = model["results"][metric["metric"]]
            yield PublishedScore(
                system, dataset, _measure(metric), float(value), source, "A", True, model["name"]
            )


def _measure(metric: Mapping[str, str]) -> str:
    """Return a measure's name, with the lowest relevant grade if trec_eval was given one (``-l 2``)."""
    level = re.search(r"-l (\d+)", metric["params"])
    name, cutoff = metric["metric"].split("@")
    return f"{name}(rel={level[1]})@{cutoff}" if level else f"{name}@{cutoff}"
