"""BM25 with Lucene's analyzers for other languages than English."""

import re
import zipfile

import pytest

from adapters import open_system
from adapters.anserini import anserini_jar
from adapters.bm25 import ANALYZERS, ENGLISH
from adapters.options import Context
from llara_eval.core.errors import UsageError
from llara_eval.datasets.load import load
from llara_eval.scoring.ranking import rank

DOCUMENTS = {"häuser": "Viele alte Häuser standen am Wasser.", "boot": "Ein Boot lag am Ufer."}


def ranking(folder, home, **options):
    dataset = load(str(folder), data_dir=folder)
    retriever = open_system("bm25", options, Context(home))
    retriever.index(dataset.corpus)
    run = rank(retriever.search(dataset.queries, 10), depth=10)
    return retriever, {query_id: list(doc_ids) for query_id, doc_ids, _ in run}


def test_words_are_stemmed_as_in_their_language(make_collection, tmp_path):
    queries = {"q1": "Haus", "q2": "das Boot am Ufer", "q3": "am"}
    folder = make_collection(DOCUMENTS, queries, {query_id: {"boot": 1} for query_id in queries})
    english, in_english = ranking(folder, tmp_path)
    german, in_german = ranking(folder, tmp_path, language="de")
    assert (in_english["q1"], in_german["q1"]) == ([], ["häuser"])
    assert (in_english["q2"], in_german["q2"]) == (["boot", "häuser"], ["boot"]), "English keeps am"
    assert (set(in_english["q3"]), in_german["q3"]) == ({"boot", "häuser"}, []), "a stop word of German"
    assert (english.name, german.name) == ("bm25", "bm25,language=de")
    assert german.settings["analyzer"] == "GermanAnalyzer"
    assert english.settings["analyzer"].startswith("DefaultEnglishAnalyzer")
    assert len(list((tmp_path / "indexes").iterdir())) >= 2, "each language has an index of its own"


def test_a_language_without_an_analyzer_is_refused_with_those_there_are(tmp_path):
    with pytest.raises(UsageError, match=r"no analyzer for the language 'xx'; there are: en, ar, bn, .*, zh"):
        open_system("bm25", {"language": "xx"}, Context(tmp_path))


def test_the_languages_are_those_of_anserini():
    with zipfile.ZipFile(anserini_jar()) as jar:
        content = jar.read("io/anserini/analysis/AnalyzerMap$1.class").decode("latin-1")
    assert set(re.findall(r"\x00\x02([a-z]{2})(?=[\x00-\x1f])", content)) == set(ANALYZERS) - {ENGLISH}
    named = set(re.findall(r"org\.apache\.lucene\.analysis\.\w+\.(\w+)", content))
    assert named == {analyzer for language, analyzer in ANALYZERS.items() if language != ENGLISH}
