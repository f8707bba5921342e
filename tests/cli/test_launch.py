"""Workers of one command: started, started again, ended; and the arguments of launchers."""

import itertools
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import make_model, make_tokenizer
from typer.testing import CliRunner
from workers import is_running, pids

from llara_eval.cli import app, launch, processes, slurm
from llara_eval.cli.encode import merged
from llara_eval.core.errors import DataError, LlaraEvalError, UsageError
from llara_eval.datasets.load import locate
from llara_eval.encoding import devices
from llara_eval.encoding.encoder import Encoder
from llara_eval.encoding.engines import find_facts
from llara_eval.encoding.templates import Template, Templates


@pytest.fixture
def workers_do(monkeypatch, tmp_path):
    """Return a function that replaces the program by some code, which is told how often it was started."""

    def exchange(code: str) -> None:
        head = (
            "import os, signal, sys, time\n"
            f"folder = {str(tmp_path)!r}\n"
            "number = os.environ['LOCAL_RANK']\n"
            "open(f'{folder}/starts-{number}', 'a').write(f'{os.getpid()}\\n')\n"
            "starts = len(open(f'{folder}/starts-{number}').readlines())\n"
        )
        monkeypatch.setattr(processes, "program", lambda words: [sys.executable, "-c", head + code, *words])

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return exchange


def test_each_worker_has_a_number_and_a_share_of_threads_and_all_but_one_are_quiet(workers_do) -> None:
    workers_do("print(number, os.environ['OMP_NUM_THREADS'], *sys.argv[1:])")
    share = max(1, len(os.sched_getaffinity(0)) // 2)
    assert launch.local(["a b"], 2) == [f"0 {share} a b\n", f"1 {share} a b --quiet\n"]


def test_workers_do_not_inherit_the_rank_of_the_program(workers_do, monkeypatch) -> None:
    monkeypatch.setenv("RANK", "3")
    workers_do("print(os.environ['RANK'])")
    assert launch.local([], 2) == ["0\n", "0\n"]


def test_threads_that_somebody_chose_are_kept(workers_do, monkeypatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    workers_do("print(os.environ['OMP_NUM_THREADS'])")
    assert launch.local([], 2) == ["7\n", "7\n"]


def test_a_worker_that_dies_is_started_again(workers_do, tmp_path) -> None:
    workers_do("number == '1' and starts <= 2 and os.kill(os.getpid(), signal.SIGKILL)\nprint(starts)")
    assert launch.local([], 2) == ["1\n", "3\n"]
    assert len(pids(tmp_path)) == 4


def test_a_worker_that_dies_again_and_again_is_given_up_and_the_others_are_ended(
    workers_do, tmp_path
) -> None:
    workers_do("number == '0' and time.sleep(60)\nsys.stderr.write('out of luck\\n')\nsys.exit(1)")
    with pytest.raises(
        LlaraEvalError, match=r"worker 1 died 4 times, at last with exit code 1\. out of luck"
    ):
        launch.local([], 2)
    assert len(pids(tmp_path)) == 1 + 1 + processes.RESTARTS
    assert not any(map(is_running, pids(tmp_path)))


def test_a_usage_error_is_not_tried_again(workers_do, tmp_path) -> None:
    workers_do(
        "number == '1' and time.sleep(60)\n"
        "while not os.path.exists(f'{folder}/starts-1'): time.sleep(0.1)\n"
        "sys.stderr.write('a note\\nerror: no such option\\n')\nsys.exit(2)"
    )
    with pytest.raises(UsageError, match=r"^no such option$"):
        launch.local([], 2)
    assert len(pids(tmp_path)) == 2
    assert not any(map(is_running, pids(tmp_path)))


def test_damaged_data_are_tried_again_until_the_same_error_comes_twice(workers_do, tmp_path) -> None:
    workers_do(
        "if starts <= int(number):\n"
        "    sys.stderr.write(f'error: shard {starts} is damaged\\n')\n"
        "    sys.exit(3)\n"
        "print(starts)"
    )
    assert launch.local([], 3) == ["1\n", "2\n", "3\n"]
    workers_do("sys.stderr.write('error: x.jsonl:3: bad\\n')\nsys.exit(3)")
    before = len(pids(tmp_path))
    with pytest.raises(DataError, match=r"^x\.jsonl:3: bad$"):
        launch.local([], 1)
    assert len(pids(tmp_path)) == before + 2


def test_a_worker_that_hangs_is_ended_when_the_others_are_done(workers_do, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(launch, "LATE", 0.3)
    monkeypatch.setattr(processes, "_ENDING", 0.1)
    workers_do("number == '1' and signal.signal(15, signal.SIG_IGN) == 0 and time.sleep(60)\nprint('done')")
    assert launch.local([], 2) == ["done\n"]
    assert not any(map(is_running, pids(tmp_path)))


def wait_for(condition) -> None:
    """Wait until a condition holds, at most a minute."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_workers_beside_this_process_share_its_threads_and_end_with_the_block(workers_do, tmp_path) -> None:
    workers_do("print(*sys.argv[1:], os.environ['OMP_NUM_THREADS'])\ntime.sleep(60)")
    before = torch.get_num_threads()
    torch.set_num_threads(64)
    try:
        with launch.beside(["a b"], 3):
            assert torch.get_num_threads() == processes.threads(3)
            wait_for(lambda: len(pids(tmp_path)) == 2)
        assert torch.get_num_threads() == 64
    finally:
        torch.set_num_threads(before)
    assert sorted(path.name for path in tmp_path.glob("starts-*")) == ["starts-1", "starts-2"]
    assert not any(map(is_running, pids(tmp_path)))


def test_a_worker_beside_this_process_that_fails_is_given_up_with_its_last_lines(
    workers_do, tmp_path, caplog
) -> None:
    workers_do("sys.stderr.write('\\n'.join(['a', 'b', 'c', 'd', 'e', 'f', 'out of luck']))\nsys.exit(1)")
    with launch.beside([], 2):
        wait_for(lambda: "is lost" in caplog.text)
    assert len(pids(tmp_path)) == 1 + processes.RESTARTS
    assert "died 4 times, at last with exit code 1. c\nd\ne\nf\nout of luck" in caplog.text


def test_an_interruption_of_the_block_ends_the_workers_beside_it(workers_do, tmp_path) -> None:
    workers_do("time.sleep(60)")
    with pytest.raises(KeyboardInterrupt), launch.beside([], 3):
        wait_for(lambda: len(pids(tmp_path)) == 2)
        raise KeyboardInterrupt
    assert not any(map(is_running, pids(tmp_path)))


def test_devices_are_dealt_out(monkeypatch) -> None:
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert devices.default_device() == torch.device("cuda")
    for number in range(3):
        monkeypatch.setenv("LOCAL_RANK", str(number))
        devices.default_device()
    assert chosen == [0, 1, 0]


def test_one_at_a_time_downloads_and_the_others_find_it(tmp_path, monkeypatch) -> None:
    calls = []

    def fetch(known, data_dir: Path, progress: object) -> None:
        calls.append(known.name)
        time.sleep(0.2)
        (data_dir / known.folder).mkdir(parents=True)

    monkeypatch.setattr("llara_eval.datasets.download.fetch_archive", fetch)
    located: list[Path] = []
    threads = [
        threading.Thread(target=lambda: located.append(locate("scifact", data_dir=tmp_path)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(calls), len(located), len(set(located))) == (1, 3, 1)


def test_two_that_convert_a_model_at_once_end_with_one(tmp_path, monkeypatch) -> None:
    import transformers

    from llara_eval.checkpoints import gguf

    class Converted:
        def save_pretrained(self, folder: Path, **_) -> None:
            others = folder.parent.parent / folder.name  # another process is first
            for target, text in ((folder, "second"), (others, "first")):
                target.mkdir(parents=True, exist_ok=True)
                (target / "config.json").write_text(text)

    complete = {"missing_keys": []}
    for name, read in (
        ("AutoModelForCausalLM", lambda *_, **__: (Converted(), complete)),
        ("AutoTokenizer", lambda *_, **__: Converted()),
    ):
        monkeypatch.setattr(transformers, name, type(name, (), {"from_pretrained": staticmethod(read)}))
    monkeypatch.setattr(gguf, "_pooling", lambda path: None)
    monkeypatch.setenv("LLARA_EVAL_HOME", str(tmp_path / "home"))
    (tmp_path / "model.gguf").write_bytes(b"weights")
    folder = gguf.convert_gguf(tmp_path / "model.gguf")
    assert (folder / "config.json").read_text() == "first"
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize("architecture", ["llama", "bert"])
def test_with_other_threads_vectors_differ_in_the_last_bits_of_float16_at_most(architecture: str) -> None:
    """MKL may sum a product in another order where another number of threads shares it.

    In float32 that moves a component of a unit vector by some 1e-7. Rounded to float16, in which vectors are
    kept, it is the same number or its neighbour; below 2 ** -8 neighbours are closer than 2 ** -18, and more
    than one of them may lie in between.
    """
    template = Template(suffix=("</s>",), max_length=64)
    model = make_model(architecture)
    templates = Templates(template, template)
    facts = find_facts(model, templates)
    encoder = Encoder(model, make_tokenizer(), templates, facts=facts)
    texts = [f"{'many words ' * (i % 7)}{i}" for i in range(200)]
    before, encoded = torch.get_num_threads(), []
    try:
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            encoded.append(encoder.encode(texts, "document"))
    finally:
        torch.set_num_threads(before)
    one, *others = (vectors.astype(np.float16) for vectors in encoded)
    for other in others:
        assert np.all(np.abs(one - other) <= np.maximum(np.spacing(np.abs(one)), np.float16(2**-18)))


def test_workers_get_the_same_command_but_for_the_launcher(tmp_path, monkeypatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(launch, "torchrun", lambda words, workers: started.append(words))
    words = [
        *("-m", "my model", "-d", "one", "-d", "beir/two", "--data-dir", str(tmp_path), "--split", "dev"),
        *("-o", "template=llara", "-o", "compile=true", "--dtype", "float32", "--max-length", "99"),
        *("--batch-tokens", "7", "--lease-seconds", "9.5", "--offline", "--json", "--verbose"),
    ]
    CliRunner().invoke(app, ["encode", *words, "--launcher", "torchrun", "--workers", "3"])
    CliRunner().invoke(app, [*started[0], "--launcher", "torchrun", "--workers", "3"])
    assert started[0] == started[1]
    assert started[0][0] == "encode"
    assert {word for word in words if not word.startswith("-")} <= set(started[0])
    pairs = list(itertools.pairwise(started[0]))
    assert {("--launcher", "local"), ("--workers", "1"), ("--dataset", "beir/two")} <= set(pairs)
    assert {"--offline", "--json", "--verbose"} <= set(started[0])
    assert "--quiet" not in started[0]


def test_a_system_without_vectors_is_refused(make_collection) -> None:
    folder = make_collection({"d": "text"}, {"q": "text"}, {"q": {"d": 1}})
    result = CliRunner().invoke(app, ["encode", "-m", "bm25", "-d", str(folder)])
    assert result.exit_code == UsageError.exit_code
    assert "not a dense retriever" in result.stderr


def test_a_slurm_script_is_valid_and_quotes_its_words(tmp_path) -> None:
    words = ["printf", r"%s\n", "a b", "$HOME", "it's", "--flag"]
    text = slurm.script(words, 4, folder=tmp_path, home=tmp_path / "a 'home'")
    file = tmp_path / "x.sbatch"
    file.write_text(text)
    subprocess.run(["bash", "-n", file], check=True)
    done = subprocess.run(["bash", file], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == words[2:]
    directives = [line for line in text.splitlines() if line.startswith("#SBATCH")]
    assert "#SBATCH --array=0-3" in directives
    assert text.index("#SBATCH --requeue") < text.index("set -euo pipefail")


@pytest.mark.parametrize("installed", [True, False])
def test_a_script_is_submitted_where_that_is_possible(tmp_path, monkeypatch, installed) -> None:
    (tmp_path / "bin").mkdir()
    if installed:
        sbatch = tmp_path / "bin" / "sbatch"
        sbatch.write_text('#!/bin/sh\ntest -s "$1" && echo "Submitted batch job 7"\n')
        sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/bin" if installed else str(tmp_path / "bin"))
    monkeypatch.setenv("HF_TOKEN", "a secret")
    monkeypatch.chdir(tmp_path)
    words = ["encode", "-m", "some/model", "-d", "demo", "--launcher", "slurm", "--workers", "4"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.stderr
    assert ("Submitted batch job 7" if installed else "sbatch is not installed here") in " ".join(
        result.stderr.split()
    )
    script = (tmp_path / "encode-model.sbatch").read_text()
    assert "--array=0-3" in script
    assert "--model some/model --dataset demo" in script
    assert "a secret" not in script
    assert CliRunner().invoke(app, words).exit_code == 0, "its own script is replaced"
    (tmp_path / "encode-model.sbatch").write_text(script.replace("--array=0-3", "--array=0-3%2"))
    refused = CliRunner().invoke(app, words)
    assert refused.exit_code == 2
    assert "%2" in (tmp_path / "encode-model.sbatch").read_text(), "somebody changed it"


def test_slurms_refusal_is_an_error(tmp_path, monkeypatch) -> None:
    (tmp_path / "sbatch").write_text("#!/bin/sh\necho no such partition >&2\nexit 1\n")
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    with pytest.raises(LlaraEvalError, match=r"refuses .*: no such partition"):
        slurm.submit("text", tmp_path / "x.sbatch")


def test_reports_of_workers_become_one_even_if_a_worker_reports_fewer_data_sets() -> None:
    def report(*counts: int) -> list[dict]:
        return [{side: {"rows": 10, "made": count} for side in ("documents", "queries")} for count in counts]

    for reports in ([report(4), report(3, 8)], [report(3, 8), report(4)]):
        assert merged(reports) == report(7, 8)
    assert merged([report(10), report(2)]) == report(10), "a shard that two workers encoded counts once"
