"""Prompts of a dense system: in its name, its settings, its vectors, and one set for several data sets."""

import json
import sys
from types import SimpleNamespace

import pytest
from commands import DOCUMENTS, QRELS, QUERIES, call, text_of
from tiny_models import make_sentence_transformer, make_tokenizer, save_checkpoint

from adapters import dense, open_system
from adapters.options import Context
from adapters.prompts import find_entry
from llara_eval.core.errors import CheckFailedError, DataError, MissingPartError
from llara_eval.datasets.load import load
from llara_eval.encoding.prompt_sets import PromptOptions
from llara_eval.evaluation.record import load as load_record
from llara_eval.evaluation.suite import Conditions, encode_all, evaluate_all

FORMAT = "Instruct: {}\nQuery: "


@pytest.fixture
def context(tmp_path):
    return Context(home=tmp_path / "home", offline=True)


@pytest.fixture
def checkpoint(tmp_path):
    prompts = {"prompts": {"query": FORMAT.format("Web"), "document": ""}}
    return str(make_sentence_transformer(tmp_path / "model", config_sentence_transformers=prompts))


@pytest.fixture
def folders(make_collection):
    return [str(make_collection(DOCUMENTS, QUERIES, QRELS, name=name)) for name in ("one", "two")]


def prompts_of(system):
    templates = system.settings["templates"]
    return templates["query"]["prompt"], templates["document"]["prompt"]


def test_two_data_sets_with_an_instruction_each_open_the_weights_once(
    tmp_path, monkeypatch, checkpoint, folders
) -> None:
    opened, read = [], dense.open_source
    monkeypatch.setattr(
        dense, "open_source", lambda *given, **options: opened.append(1) or read(*given, **options)
    )
    file = tmp_path / "own.json"
    file.write_text(json.dumps({"one": "First", "two": {"query": "Second", "document": "text: "}}))
    options = {"prompts": str(file), "dtype": "float32"}
    outcomes, failures = evaluate_all(
        [checkpoint], folders, Conditions(runs_dir=tmp_path / "runs", options=options)
    )
    assert (failures, len(opened)) == ([], 1)
    first, second = (load_record(outcome.folder) for outcome in outcomes)
    assert first.system == second.system
    assert first.system.startswith("model+own.json@")
    assert first.settings["templates"]["query"]["prompt"] == FORMAT.format("First")
    assert first.settings["templates"]["document"]["prompt"] == ""
    assert second.settings["templates"]["query"]["prompt"] == FORMAT.format("Second")
    assert second.settings["templates"]["document"]["prompt"] == "text: "
    assert second.settings["prompts_from"] == {"query": "two of own.json", "document": "two of own.json"}
    assert first.phases["index"]["reused"] == 0
    reports = encode_all(checkpoint, folders, Conditions(options=options))
    assert [side["made"] for report in reports for side in (report["documents"], report["queries"])] == [
        0
    ] * 4


def test_the_name_holds_the_set_of_prompts_and_the_cache_their_text(checkpoint, context, folders) -> None:
    dataset = load(folders[0], data_dir=context.home)
    cases = {
        "model": {},
        "model+no-prompts": {"no_prompts": True},
        "model+query": {"prompt_name": "query"},
        "model+prompt@be267c6f": {"query_prompt": "q: ", "document_prompt": "d: "},
        "model+no-prompts,max_length=40": {"no_prompts": "true", "max_length": "40"},
    }
    stores = set()
    for name, options in cases.items():
        system = open_system(checkpoint, options, context)
        assert system.name == name
        stores.add(str(system.encode_queries(dataset.queries).folder))
    assert len(stores) == len(cases) - 1, "model+query has the prompt of model"


def test_a_set_needs_a_data_set_and_says_so(tmp_path, checkpoint, context, folders) -> None:
    file = tmp_path / "own.toml"
    file.write_text('one = "First"\n')
    dataset = load(folders[0], data_dir=tmp_path)
    system = open_system(checkpoint, {"prompts": str(file)}, context)
    for use in (lambda: system.index(dataset.corpus), lambda: system.encode_queries(dataset.queries)):
        with pytest.raises(CheckFailedError, match=r"own\.toml has prompts for each .*--query-prompt"):
            use()
    assert prompts_of(system.on("one", None)) == (FORMAT.format("First"), "")
    assert prompts_of(system.on("one+limit-9", None)) == (FORMAT.format("First"), "")
    with pytest.raises(DataError, match=r"own\.toml has no prompt for two; it has one"):
        system.on("two", None)
    file.write_text('one = "First"\ndefault = "Any"\n')
    system = open_system(checkpoint, {"prompts": str(file)}, context)
    assert prompts_of(system) == (FORMAT.format("Any"), "")
    assert prompts_of(system.on("one", None)) == (FORMAT.format("First"), "")


def test_mining_takes_the_prompts_of_the_data_set_that_is_the_corpus(tmp_path, checkpoint, folders) -> None:
    file, pairs = tmp_path / "own.json", tmp_path / "pairs.jsonl"
    file.write_text(json.dumps({"one": "First", "default": "Any"}))
    pairs.write_text(json.dumps({"query": "a question", "pos": ["an answer"]}) + "\n")

    def mined(corpus: str, *words: str):
        command = ["mine", "--model", checkpoint, "--data", pairs, "--corpus", corpus, "--overwrite"]
        done = call(*command, "--output", tmp_path / "mined.jsonl", "--offline", "--prompts", file, *words)
        if done.exit_code:
            return done.exit_code, text_of(done)
        record = json.loads((tmp_path / "mined.json").read_text())
        return record["system_settings"]["templates"]["query"]["prompt"]

    assert mined(folders[0]) == FORMAT.format("First")
    assert mined(folders[1]) == mined("self") == FORMAT.format("Any")
    assert mined(f"{folders[0]}/corpus.jsonl") == FORMAT.format("Any")
    file.write_text(json.dumps({"one": "First"}))
    code, problem = mined("self")
    assert (code, "give --query-prompt and --document-prompt" in problem) == (4, True)
    code, problem = mined(folders[1])
    assert (code, "own.json has no prompt for two" in problem) == (3, True)


@pytest.mark.parametrize("maxp", [False, True])
def test_documents_are_read_longer_where_the_data_set_is_of_documents(checkpoint, tmp_path, maxp) -> None:
    system = open_system(checkpoint, {}, Context(home=tmp_path, offline=True, maxp=maxp))
    long, short = system.on("pages", 2_048), system.on("passages", None)
    expected = 48 if maxp else 128  # the model has 128 positions
    assert long.settings["templates"]["document"]["max_length"] == expected
    assert short.settings["templates"]["document"]["max_length"] == 48
    assert long.name == short.name == system.name


def test_a_checkpoint_that_says_nothing_is_warned_of_in_the_result(tmp_path, folders) -> None:
    bare = str(save_checkpoint(tmp_path / "bare", "bert"))
    make_tokenizer(slots=0).save_pretrained(bare)  # with slot tokens it would be a checkpoint of LLaRA
    (outcome,), _ = evaluate_all(
        [bare], folders[:1], Conditions(runs_dir=tmp_path / "runs", options={"dtype": "float32"})
    )
    (warning,) = load_record(outcome.folder).warnings
    assert warning.startswith(
        "bare does not say everything about its vectors; assumed here: the mean of all positions "
        "(-o pooling), cosine (-o normalize), no prompt (--query-prompt, --document-prompt), at most 128"
    )
    (outcome,), _ = evaluate_all(
        [bare], folders[:1], Conditions(runs_dir=tmp_path / "maxp", options={"dtype": "float32"}, maxp=True)
    )
    assert load_record(outcome.folder).warnings == [warning]


def test_a_key_that_is_a_data_set_is_no_side_of_another(tmp_path) -> None:
    file = tmp_path / "own.json"
    file.write_text(
        json.dumps({"msmarco-passage": "p: ", "nq-document": "n: ", "default": "d: "}), encoding="utf-8"
    )
    options = PromptOptions(set_name=str(file))
    prompts = {
        name: (entry.query, entry.document)
        for name in ("msmarco-passage/dev", "dl19", "beir/msmarco", "beir/nq")
        if (entry := find_entry(options, name))
    }
    assert prompts == {
        "msmarco-passage/dev": ("p: ", None),
        "dl19": ("p: ", None),
        "beir/msmarco": ("d: ", None),
        "beir/nq": (None, "n: "),
    }


class Tasks:
    """A stand-in for the package mteb."""

    __version__ = "9.9"

    def get_task(self, name):
        prompts = {"SciFact": {"query": "Check the claim"}, "QuoraRetrieval": "Find the same", "NQ": None}
        return SimpleNamespace(metadata=SimpleNamespace(prompt=prompts[name]), abstask_prompt="Find any text")


def test_instructions_are_read_from_mteb(monkeypatch, checkpoint, context) -> None:
    monkeypatch.setitem(sys.modules, "mteb", Tasks())
    system = open_system(checkpoint, {"prompts": "mteb"}, context)
    assert system.name == "model+mteb"
    expected = {
        "beir/scifact+limit-9": "Check the claim",
        "quora": "Find the same",
        "beir/nq": "Find any text",
    }
    for dataset, instruction in expected.items():
        assert prompts_of(system.on(dataset, None)) == (FORMAT.format(instruction), "")
    assert system.on("scifact", None).settings["prompts_from"]["query"] == "task SciFact of mteb 9.9"
    with pytest.raises(DataError, match=r"the installed mteb 9\.9 has no task FiQA2018"):
        system.on("beir/fiqa", None)
    with pytest.raises(DataError, match="mteb has no task for demo; give its prompts as a file"):
        system.on("demo", None)
    monkeypatch.setitem(sys.modules, "mteb", None)
    with pytest.raises(MissingPartError, match=r"pip install 'llara-eval\[mteb\]'"):
        system.on("scifact", None)


@pytest.mark.slow
def test_every_task_of_beir_is_in_mteb(checkpoint, context) -> None:
    mteb = pytest.importorskip("mteb")
    from llara_eval.datasets.known import KNOWN

    system = open_system(checkpoint, {"prompts": "mteb"}, context)
    for known in KNOWN.values():
        if known.tasks:
            query, document = prompts_of(system.on(known.name, None))
            assert query.startswith("Instruct: ")
            assert document == ""
        for task in known.tasks:
            assert mteb.get_task(task).metadata.name == task
