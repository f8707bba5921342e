"""The package as users install it: a wheel, in an environment that knows nothing of this checkout."""

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from checkout import ROOT

pytestmark = pytest.mark.slow

NOT_SOURCE = shutil.ignore_patterns(".*", "build", "dist", "runs", "*.egg-info", "__pycache__")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Build the wheel from a copy of the source, so that no build folder is left in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, folder / "source", ignore=NOT_SOURCE)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, folder / "source")
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """Return a new environment with the wheel in it; only the dependencies are those of this environment."""
    folder = tmp_path_factory.mktemp("clean") / "environment"
    venv.create(folder, symlinks=True)
    pip("--python", folder, "install", "--no-deps", "--no-index", wheel)
    (site,) = folder.glob("lib/python*/site-packages")
    # Folders that a .pth file names are searched, but their own .pth files, an editable install among them,
    # are not read.
    (site / "dependencies.pth").write_text("\n".join(path for path in sys.path if "site-packages" in path))
    return folder


def pip(*words: object) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=clean_environment())
    assert done.returncode == 0, done.stderr


def clean_environment() -> dict[str, str]:
    """Return the environment variables without the one that leads back into this checkout."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def run(folder: Path, *words: object) -> str:
    """Run a program of the environment, in its folder, and return what it prints."""
    command = [str(folder / "bin" / str(words[0])), *map(str, words[1:])]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=folder, env=clean_environment()
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_the_packages_with_their_data_and_nothing_else(wheel) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    folders = [ROOT / "llara_eval", ROOT / "adapters"]
    source = {
        str(path.relative_to(ROOT)) for folder in folders for path in folder.rglob("*") if path.is_file()
    }
    assert names == {name for name in source if "__pycache__" not in name}
    assert {"llara_eval/py.typed", "llara_eval/data/published.csv", "adapters/bm25.py"} <= names
    assert any(name.startswith("llara_eval/data/demo/") for name in names)


def test_what_is_imported_is_the_wheel(installed) -> None:
    code = "import adapters, llara_eval; print(llara_eval.__file__, adapters.__file__, sep='\\n')"
    for file in run(installed, "python", "-c", code).split():
        assert Path(file).is_relative_to(installed)


def test_help_is_printed(installed) -> None:
    assert "evaluate" in run(installed, "llara-eval", "--help")


def test_bm25_is_evaluated_on_the_demo(installed, tmp_path) -> None:
    words = ["--dataset", "demo", "--model", "bm25", "--runs-dir", tmp_path, "--offline", "--json"]
    outcome = json.loads(run(installed, "llara-eval", "evaluate", *words))
    recorded = json.loads((ROOT / "runs" / "bm25" / "demo" / "result.json").read_text())
    assert outcome["measures"]["nDCG@10"] == recorded["measures"]["nDCG@10"]["mean"] > 0.5
