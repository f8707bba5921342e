"""Python objects as systems: every form gives the same result, and ambiguous objects are refused."""

import faiss
import numpy as np
import pytest
import torch
from face_models import WIDTH, Beir, OneEncode, Searches, SentenceTransformerLike, Words, vectors
from fakes import WordOverlap

from adapters import objects
from adapters.objects import as_retriever
from llara_eval.core.errors import DataError, UsageError
from llara_eval.core.types import Query
from llara_eval.datasets.load import load
from llara_eval.scoring.ranking import rank


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return load("demo", data_dir=tmp_path_factory.mktemp("data"), offline=True)


def ranking(model, dataset, depth=10, **naming):
    retriever = as_retriever(model, **naming)
    retriever.index(dataset.corpus)
    run = rank(retriever.search(dataset.queries, depth), depth=depth)
    return [(query, docs.tolist(), scores.tolist()) for query, docs, scores in run]


@pytest.mark.parametrize("model", [Beir, OneEncode])
def test_every_form_of_an_encoder_gives_the_same_ranking(demo, model):
    assert ranking(model(), demo) == ranking(Words(), demo)


def test_an_object_that_searches_finds_what_its_vectors_would(demo):
    by_vectors, by_itself = ranking(Words(), demo), ranking(Searches(), demo)
    for (query, _, scores), (other, _, others) in zip(by_vectors, by_itself, strict=True):
        assert query == other
        assert others == pytest.approx(scores, rel=1e-6)


@pytest.mark.parametrize("block", [3, 4096])
def test_the_search_equals_faiss_on_the_same_vectors(demo, monkeypatch, block):
    monkeypatch.setattr(objects, "BLOCK", block)
    documents = list(demo.corpus)
    index = faiss.IndexFlatIP(WIDTH)
    index.add(vectors([document.contents for document in documents]))
    scores, _ = index.search(vectors([query.text for query in demo.queries]), 10)
    for (_, docs, ours), expected in zip(ranking(Words(), demo), scores, strict=True):
        assert len(docs) == 10
        assert ours == pytest.approx(expected.tolist(), rel=1e-5)


def test_sentence_transformers_say_that_they_mean_cosines(demo):
    by_itself, chosen = ranking(SentenceTransformerLike(), demo), ranking(Words(), demo, similarity="cosine")
    assert by_itself == chosen != ranking(Words(), demo)
    assert all(0 <= score <= 1.0001 for *_, scores in by_itself for score in scores)


def test_the_cosine_with_a_vector_of_zeros_is_zero(demo):
    class Silent(Words):
        def encode_documents(self, texts):
            return np.zeros((len(texts), WIDTH))

    assert {score for *_, scores in ranking(Silent(), demo, 1, similarity="cosine") for score in scores} == {
        0
    }


def test_a_retriever_is_returned_as_it_is():
    retriever = WordOverlap()
    assert as_retriever(retriever) is retriever
    with pytest.raises(UsageError, match="a name and a similarity of its own"):
        as_retriever(retriever, name="other")


class Nameless:
    def encode(self, texts):
        return vectors(texts)


def test_a_name_is_the_objects_own_or_given():
    with pytest.raises(UsageError, match=r"Nameless has no name .*llara_eval.wrap\(model, name="):
        as_retriever(Nameless())
    assert as_retriever(Nameless(), name="given").name == "given"
    assert as_retriever(Words()).name == "words"


@pytest.mark.parametrize(
    ("changes", "naming", "message"),
    [
        ({}, {}, "cannot be evaluated: it has neither encode_queries with encode_documents"),
        ({"encode_queries": vectors}, {}, "cannot be evaluated"),
        ({"encode": vectors, "similarity_fn_name": "euclidean"}, {}, "similarity 'euclidean' is not one of"),
        ({"search": vectors}, {"similarity": "dot"}, "searches by itself"),
        ({"encode": vectors, "settings": {"model": object()}}, {}, "cannot be recorded as JSON"),
    ],
)
def test_an_object_that_cannot_be_evaluated_is_refused_at_once(changes, naming, message):
    model = type("Model", (), {"name": "mine", **changes})()
    with pytest.raises(UsageError, match=message):
        as_retriever(model, **naming)


def with_nan(out):
    out[1, 2] = np.nan
    return out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda out: out[:-1], r"returned an array of shape \(\d+, 64\); expected \(\d+, width\)"),
        (lambda out: out[0], "returned an array of shape"),
        (lambda out: out[:, :0], "returned an array of shape"),
        (lambda out: out[None], "returned an array of shape"),
        (with_nan, "the vector of document '.+' is not finite"),
        (lambda out: out.astype(str), "expected an array of numbers"),
        (lambda out: [[1.0], [1.0, 2.0]], "expected an array of numbers"),
        (lambda out: None, "expected an array of numbers"),
    ],
)
def test_an_output_that_is_not_a_vector_for_each_text_is_refused(demo, change, message):
    class Broken(Words):
        def encode_documents(self, texts):
            return change(vectors(texts))

    with pytest.raises(DataError, match=message):
        ranking(Broken(), demo)


def test_vectors_of_another_width_are_refused(demo, monkeypatch):
    class Narrow(Words):
        def encode_queries(self, texts):
            return vectors(texts)[:, :8]

    with pytest.raises(DataError, match=r"returned an array of shape \(\d+, 8\); expected \(\d+, 64\)"):
        ranking(Narrow(), demo)


@pytest.mark.parametrize(
    "form",
    [
        lambda out: torch.from_numpy(out).requires_grad_(),
        lambda out: list(torch.from_numpy(out)),
        lambda out: out.tolist(),
        lambda out: list(out),
    ],
)
def test_vectors_may_be_tensors_or_lists(demo, form):
    class Other(Words):
        def encode_documents(self, texts):
            return form(vectors(texts))

    assert ranking(Other(), demo) == ranking(Words(), demo)


def test_bfloat16_tensors_are_taken(demo):
    class Half(Words):
        def encode_documents(self, texts):
            return torch.from_numpy(vectors(texts)).bfloat16()

    assert len(ranking(Half(), demo)) == len(demo.queries)


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ({"nobody": {"d": 1.0}}, "query 'nobody', which was not passed to it"),
        ({"q": {"d": None}}, "the score None is not a number"),
        ({"q": {"": 1.0}}, "an identifier must be a non-empty string"),
        ([("q", "d", 1.0)], "run: expected query id → document id → score, a data frame or a file"),
    ],
)
def test_what_is_no_hit_is_refused(results, message):
    model = type("Model", (), {"name": "mine", "search": lambda self, queries, depth: results})()
    with pytest.raises(DataError, match=message):
        as_retriever(model).search([Query("q", "text")], 10)


def test_a_query_without_hits_keeps_its_place():
    model = type("Model", (), {"name": "mine", "search": lambda self, queries, depth: {"b": {"d": 1}}})()
    hits = as_retriever(model).search([Query("a", "text"), Query("b", "text")], 10)
    assert hits.query_ids.tolist() == ["a", "b"]
    assert hits.query.tolist() == [1]


def test_the_settings_of_an_object_are_recorded():
    model = type("Model", (Words,), {"settings": {"version": 3}})()
    assert as_retriever(model).settings == {"version": 3, "object": "Model", "similarity": "dot"}


def test_a_search_before_the_index_is_a_mistake():
    with pytest.raises(RuntimeError, match="comes first"):
        as_retriever(Words()).search([Query("a", "text")], 10)
