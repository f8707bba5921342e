"""Tokens of data sets: counted where the texts are at hand, else taken from the table."""

import numpy as np
import pytest
from tiny_models import make_tokenizer

from llara_eval.checkpoints.folder import Checkpoint
from llara_eval.core.errors import DataError
from llara_eval.datasets.known import BEIR, CQADUPSTACK, expand, find
from llara_eval.encoding.templates import Template, Templates
from llara_eval.planning import corpus_sizes
from llara_eval.planning.workload import SAMPLE, Reading, workloads


def reading(limit: int = 512) -> Reading:
    """Return a tokenizer for which every byte is a token, and a template without a prompt."""
    template = Template(max_length=limit)
    return Reading(Templates(template, template), make_tokenizer())


def test_documents_and_queries_are_those_of_the_catalogue() -> None:
    for name, size in corpus_sizes.load().items():
        known = [find(part) for part in expand(name)]
        if None not in known:
            assert size.queries == sum(member.queries for member in known), name
            if len(known) == 1:
                assert size.documents == known[0].documents, name
    assert set(BEIR) - set(CQADUPSTACK) < set(corpus_sizes.load())


def test_names_of_the_catalogue_are_understood() -> None:
    assert corpus_sizes.find("scifact") is corpus_sizes.find("beir/scifact")
    assert corpus_sizes.find("msmarco-passage/trec-dl-2019") is corpus_sizes.find("msmarco")
    assert corpus_sizes.find("msmarco-document/dev") is corpus_sizes.find("msmarco-document")
    for unknown in ("msmarco-passage-titled/dev", "scifact/other", "cqadupstack/android", "beir", ""):
        assert corpus_sizes.find(unknown) is None, unknown
    groups = {name: corpus_sizes.expand(name) for name in ("beir-13", "beir-14", "beir-15", "BEIR-18")}
    assert [len(set(members)) for members in groups.values()] == [13, 14, 15, 18]
    assert all(corpus_sizes.find(member) for members in groups.values() for member in members)


@pytest.mark.parametrize("name", corpus_sizes.load())
def test_lengths_have_the_mean_of_the_table_and_grow_with_the_limit(name) -> None:
    size = corpus_sizes.load()[name]
    means = [reading(limit).with_template(size.lengths(), "document").mean() for limit in (64, 512, 2048)]
    assert np.minimum(size.lengths() + corpus_sizes.TEMPLATE_TOKENS, 512).mean() == pytest.approx(size.tokens)
    assert means == sorted(means)
    assert means[0] <= 64


def test_a_folder_is_counted_with_the_models_tokenizer_and_template(make_collection, tmp_path) -> None:
    documents = {f"d{i}": ("title", "x" * i) for i in range(1, 31)}
    folder = make_collection(documents, {"q1": "what", "q2": "unjudged"}, {"q1": {"d1": 1}})
    template = Template(prefix=("<s>",), suffix=("</s>",), prompt="p:", max_length=20)
    (load,) = workloads(
        [str(folder)], Reading(Templates(template, template), make_tokenizer()), data_dir=tmp_path
    )
    template_tokens = len("p:") + 2
    assert (load.name, load.documents, load.queries, load.tokens_from) == ("tiny", 30, 1, "sample")
    expected = [min(20, template_tokens + len("title ") + i) for i in range(1, 31)]
    assert sorted(load.document_tokens) == expected
    assert load.query_tokens.tolist() == [template_tokens + len("what")]


def test_a_large_corpus_is_counted_whole_and_sampled_evenly(make_collection, tmp_path) -> None:
    total = 5 * SAMPLE
    documents = {f"d{i}": "x" * (1 + i * 100 // total) for i in range(total)}
    folder = make_collection(documents, {"q": "what"}, {"q": {"d0": 1}})
    (load,), (again,) = (workloads([str(folder)], reading(), data_dir=tmp_path) for _ in range(2))
    assert (load.documents, len(load.document_tokens)) == (total, SAMPLE)
    assert load.document_tokens.mean() == pytest.approx(50.5, abs=4 * 29 / SAMPLE**0.5)
    assert np.array_equal(load.document_tokens, again.document_tokens)


def test_a_named_set_is_sampled_where_it_is_at_hand_and_looked_up_elsewhere(
    make_collection, tmp_path
) -> None:
    make_collection({"d": "some text"}, {"q": "what"}, {"q": {"d": 1}}, name="scifact")
    loads = workloads(["scifact", "beir/scifact", "nfcorpus", "demo"], reading(), data_dir=tmp_path)
    assert [(load.name, load.documents, load.tokens_from) for load in loads] == [
        ("beir/scifact", 1, "sample"),
        ("beir/nfcorpus", 3633, "published"),
        ("demo", 180, "sample"),
    ]
    without = Reading(reading().templates)
    assert workloads(["scifact"], without, data_dir=tmp_path)[0].tokens_from == "published"


def test_cqadupstack_is_one_collection_and_at_hand_only_with_all_forums(make_collection, tmp_path) -> None:
    for name in CQADUPSTACK[1:]:
        make_collection({"d": "x"}, {"q": "y"}, {"q": {"d": 1}}, name=name.removeprefix("beir/"))
    (load,) = workloads(["cqadupstack"], reading(), data_dir=tmp_path)
    assert (load.documents, load.tokens_from) == (457_199, "published")
    forum = CQADUPSTACK[0].removeprefix("beir/")
    make_collection({"d": "x", "e": "x"}, {"q": "y"}, {"q": {"d": 1}}, name=forum)
    (load,) = workloads(["cqadupstack"], reading(), data_dir=tmp_path)
    assert (load.name, load.documents, load.queries, load.tokens_from) == (
        "beir/cqadupstack",
        13,
        12,
        "sample",
    )


def test_ms_marco_is_sampled_from_its_official_files(tmp_path) -> None:
    folder = tmp_path / "msmarco-passage"
    folder.mkdir()
    (folder / "queries.dev.small.tsv").write_text("q\twhat\nr\tunjudged\n")
    (folder / "qrels.dev.small.tsv").write_text("q\t0\t1\t1\n")
    (folder / "corpus.jsonl").write_text('{"docid": "1", "title": "title", "text": "some text"}\n')
    names = ["msmarco-passage/dev", "msmarco-passage-titled/dev"]
    first, second = workloads(names, reading(), data_dir=tmp_path)
    assert (first.name, first.tokens_from) == ("beir/msmarco", "published"), "titled passages are another set"
    assert (second.name, second.documents, second.queries) == (names[1], 1, 1)
    (folder / "collection.tsv").write_text("1\tsome text\n2\tmore\n")
    loads = workloads([*names, "msmarco-passage", "msmarco-document"], reading(), data_dir=tmp_path)
    assert [(load.documents, load.tokens_from) for load in loads] == [
        (2, "sample"),
        (1, "sample"),
        (3_213_835, "published"),
    ]
    assert loads[0].document_tokens.tolist() == [9, 4]
    assert loads[1].document_tokens.tolist() == [15]


def test_errors_of_a_collection_at_hand_are_not_covered_up(make_collection, tmp_path) -> None:
    folder = make_collection({"d": "x"}, {"q": "y"}, {"q": {"d": 1}}, split="dev")
    with pytest.raises(DataError, match="no judgements for split 'test'; the folder has dev"):
        workloads([str(folder)], reading(), data_dir=tmp_path)
    assert workloads([str(folder)], reading(), data_dir=tmp_path, split="dev")[0].queries == 1
    (folder / "corpus.jsonl").write_text("{\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"corpus\.jsonl:1: not valid JSON"):
        workloads([str(folder)], reading(), data_dir=tmp_path, split="dev")


@pytest.mark.real
@pytest.mark.models
def test_the_table_agrees_with_real_texts(real_data, packaged_model) -> None:
    from adapters import checkpoint_folder, checkpoint_texts

    model = packaged_model("all-minilm-l6-v2")
    tokenizer, templates = checkpoint_texts(model, {}, Checkpoint(checkpoint_folder(model, offline=True)))
    limited = templates.with_changes(max_length=512 - corpus_sizes.TEMPLATE_TOKENS + 2)
    for name in ("scifact", "arguana"):
        (load,) = workloads([name], Reading(limited, tokenizer), data_dir=real_data)
        text = load.document_tokens.mean() - 2  # [CLS] and [SEP]
        published = corpus_sizes.load()[f"beir/{name}"].tokens - corpus_sizes.TEMPLATE_TOKENS
        assert 1.10 * text == pytest.approx(published, rel=0.1), name
