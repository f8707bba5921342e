import json

import numpy as np
import pytest
import torch
from commands import text_of
from stores import Shards, as_lists, search, unit
from tiny_models import TEXTS, save_checkpoint
from typer.testing import CliRunner

from llara_eval.cli import app
from llara_eval.core.errors import UsageError
from llara_eval.search.compressed import (
    RESCORED,
    Grid,
    Variant,
    bits,
    check_dims,
    search_variant,
    shorten,
    signs,
)

DOCUMENTS, QUERIES = unit(3000, 50), Shards(unit(30, 50, seed=1), letter="q")

every = pytest.mark.parametrize(
    "variant",
    [Variant("int8"), Variant("binary"), Variant(dims=20), Variant("int8", 20), Variant("binary", 20)],
    ids=str,
)


def half(vectors) -> torch.Tensor:
    return torch.from_numpy(np.asarray(vectors, dtype=np.float16))


def search_in(tmp_path, documents, depth, variant, **options):
    return search_variant(QUERIES, documents, depth, variant, scratch=tmp_path, **options)


def recall(expected, hits) -> float:
    inside = [
        len({doc_id for doc_id, _ in hits[query_id]} & {doc_id for doc_id, _ in best}) / len(best)
        for query_id, best in expected.items()
    ]
    return float(np.mean(inside))


@every
def test_shards_blocks_and_proposers_play_no_part(tmp_path, variant, monkeypatch) -> None:
    one = as_lists(search_in(tmp_path, Shards(DOCUMENTS, ()), 10, variant).hits)
    monkeypatch.setattr("llara_eval.search.search.SMALLEST", 64)
    monkeypatch.setattr("llara_eval.search.search.SCORES", 64)
    many = Shards(DOCUMENTS, (0.1, 0.11, 0.8))
    assert as_lists(search_in(tmp_path, many, 10, variant, proposer="faiss").hits) == one
    assert as_lists(search_in(tmp_path, many, 10, variant).hits) == one
    assert list(tmp_path.iterdir()) == [], "nothing is left"


@pytest.mark.parametrize("form", ["int8", "binary"])
def test_what_is_proposed_is_scored_with_the_full_vectors(tmp_path, form) -> None:
    documents = Shards(DOCUMENTS[: 10 * RESCORED])
    exact = as_lists(search(QUERIES, documents, 10))
    assert as_lists(search_in(tmp_path, documents, 10, Variant(form)).hits) == exact, "all are proposed"
    all_documents = Shards(DOCUMENTS)
    some = as_lists(search_in(tmp_path, all_documents, 10, Variant(form)).hits)
    exact_scores = {q: dict(hits) for q, hits in as_lists(search(QUERIES, all_documents, 3000)).items()}
    assert all(exact_scores[q][d] == value for q, hits in some.items() for d, value in hits)


def test_bytes_lose_next_to_nothing_and_bits_more(tmp_path) -> None:
    documents = Shards(DOCUMENTS)
    exact = as_lists(search(QUERIES, documents, 10))
    assert recall(exact, as_lists(search_in(tmp_path, documents, 10, Variant("int8")).hits)) == 1
    assert 0.5 < recall(exact, as_lists(search_in(tmp_path, documents, 10, Variant("binary")).hits)) < 1


def test_a_variant_says_what_it_searched(tmp_path) -> None:
    documents = Shards(DOCUMENTS)
    for variant, size in [
        (Variant(), 100),
        (Variant("int8"), 50),
        (Variant("binary"), 7),
        (Variant(dims=20), 40),
        (Variant("int8", 20), 20),
        (Variant("binary", 20), 3),
    ]:
        phases = search_in(tmp_path, documents, 10, variant).phases
        assert phases["search"]["bytes_per_document"] == size
        assert phases["search"]["bytes"] == 3000 * size
        assert ("quantise" in phases) == (variant != Variant())


def test_a_grid_is_exact_in_steps_and_near_in_between() -> None:
    vectors = half(unit(500, 30) * np.geomspace(1e-4, 1, 30))
    vectors[:, 7] = 0.25
    grid = Grid.between(*torch.aminmax(vectors, dim=0))
    codes = grid.codes(vectors)
    assert codes.min() >= -127 and codes.max() <= 127 and not codes[:, 7].any()
    off = (grid.middle + grid.step.float() * torch.from_numpy(codes) - vectors.float()).abs()
    assert torch.all(off <= grid.step.float() * 0.501)
    queries = half(unit(20, 30, seed=2))
    assert np.array_equal(grid.query(queries), queries.double().numpy() * grid.step.double().numpy())


def test_bits_are_signs_and_order_as_signs_do() -> None:
    vectors, query = half(unit(200, 13)), unit(1, 13, seed=3)[0]
    packed = signs(vectors)
    assert packed.shape == (200, 2)
    unpacked = bits(packed, 13).numpy()
    assert np.array_equal(unpacked, (vectors > 0).numpy())
    plus_minus = np.where(vectors.numpy() > 0, 1, -1)
    assert np.allclose(2 * unpacked @ query - query.sum(), plus_minus @ query)


def test_shortened_vectors_are_of_length_one_again() -> None:
    vectors = half(np.vstack([unit(100, 40), np.zeros((1, 40))]))
    short = shorten(vectors, 15, unit=True)
    assert short.shape == (101, 15) and short.dtype == torch.half
    lengths = torch.linalg.vector_norm(short.double(), dim=1)
    assert torch.allclose(lengths[:-1], torch.ones(100, dtype=torch.double), atol=1e-3)
    assert lengths[-1] == 0
    assert torch.equal(shorten(vectors, 15, unit=False), vectors[:, :15])
    assert torch.equal(shorten(vectors, 40, unit=False), vectors)


@pytest.mark.parametrize("dims", [0, -3, 385])
def test_dimensions_that_are_not_there_are_refused_with_both_numbers(dims) -> None:
    with pytest.raises(UsageError, match=f"dims={dims}: the vectors have 384 dimensions; keep 1 to 384"):
        check_dims(dims, 384)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny")


def test_a_variant_is_a_system_of_its_own(checkpoint, make_collection, tmp_path) -> None:
    folder = make_collection(
        {f"d{i}": text for i, text in enumerate(TEXTS)},
        {"q": "moon", "r": "cello"},
        {"q": {"d1": 1}, "r": {"d2": 1}},
    )
    runs = tmp_path / "runs"

    def run(*arguments):
        return CliRunner().invoke(app, [*map(str, arguments), "--runs-dir", str(runs)])

    evaluate = ["evaluate", "-m", checkpoint, "-d", folder, "-o", "pooling=mean", "--offline", "--quiet"]
    assert run(*evaluate).exit_code == 0
    assert run(*evaluate, "--vectors", "int8", "--dims", 8).exit_code == 0
    plain, variant = (
        json.loads((runs / name / "tiny" / "result.json").read_text())
        for name in ("tiny,pooling=mean", "tiny,pooling=mean,vectors=int8,dims=8")
    )
    assert not {"vectors", "dims"} & set(plain["settings"])
    assert (variant["settings"]["vectors"], variant["settings"]["dims"]) == ("int8", 8)
    assert plain["phases"]["search"]["bytes_per_document"] == 64
    assert variant["phases"]["search"]["bytes_per_document"] == 8
    compared = run("compare", plain["system"], variant["system"], "--dataset", "tiny")
    assert compared.exit_code == 0 and "vectors=int8" in compared.output


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--dims", "33"], "dims=33: the vectors have 32 dimensions"),
        (["--vectors", "int4"], "expected one of fp16, int8, binary"),
    ],
)
def test_bad_values_are_refused_before_anything_is_encoded(
    checkpoint, option, message, make_collection
) -> None:
    folder = make_collection({"d": "text"}, {"q": "moon"}, {"q": {"d": 1}})
    result = CliRunner().invoke(
        app,
        ["evaluate", "-m", str(checkpoint), "-d", str(folder), "-o", "pooling=mean", "--offline", *option],
    )
    assert result.exit_code == 2
    assert message in text_of(result)
