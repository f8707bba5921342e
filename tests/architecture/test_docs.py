"""The README and the pages of docs/ say what is true: commands, links, numbers, generated pages."""

import csv
import json
import re
import runpy
import shlex
import tomllib
from pathlib import Path

import picture
import pytest
import reference
import typer
from checkout import ROOT

from llara_eval.cli import app
from llara_eval.core.errors import DataError
from llara_eval.core.paths import DATA
from llara_eval.reports.published import REPLLAMA

README = ROOT / "README.md"
PAGES = sorted((ROOT / "docs").glob("*.md"))
TEXTS = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "benchmarks" / "README.md", *PAGES]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def command_lines(text: str) -> list[str]:
    """Return what follows ``llara-eval`` in lines of code, and in code within text where options follow."""
    joined = text.replace("\\\n", " ")
    lines = re.findall(r"^ *(?:\$ )?llara-eval (.+)$", joined, flags=re.MULTILINE)
    lines += re.findall(r"-m llara_eval (.+)$", joined, flags=re.MULTILINE)
    return lines + re.findall(r"`llara-eval ([a-z-]+ [^`]*-[^`]*)`", without_code(joined))


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, made as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.+)$", without_code(read(path)), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_the_readme_is_read_in_a_minute():
    assert len(README.read_bytes()) <= 8_192
    assert len(read(README).splitlines()) <= 150


@pytest.mark.parametrize(("name", "most"), [("CONTRIBUTING.md", 6_144), ("benchmarks/README.md", 3_072)])
def test_other_first_pages_are_short(name, most):
    assert len((ROOT / name).read_bytes()) <= most


@pytest.mark.parametrize("path", [README, *PAGES], ids=lambda path: path.name)
def test_every_command_line_is_one_the_program_takes(path):
    program = typer.main.get_command(app)
    for line in command_lines(read(path)):
        name, *words = shlex.split(line, comments=True)
        if name.startswith("-"):
            continue
        command = program.commands[name]
        if name == "datasets" and words:
            command = command.commands[words.pop(0)]
        if {"-h", "--help"} & set(words):
            continue
        try:
            command.make_context(name, words)
        except (typer.BadParameter, DataError) as error:  # the reader has the file
            message = getattr(error, "message", str(error))
            assert re.search("does not exist|No such file", message), f"{line}: {message}"


def test_every_command_is_shown_on_a_page_of_a_task():
    shown = [line for page in PAGES if page.name != "cli.md" for line in command_lines(read(page))]
    shown += re.findall(r"`llara-eval ([^`]+)`", "".join(map(read, PAGES)))
    assert len(shown) > 60
    used = {tuple(line.split()[:2]) for line in shown}
    for command in app.registered_commands:
        assert command.name in {name for name, *_ in used}
    (datasets,) = app.registered_groups
    for command in datasets.typer_instance.registered_commands:
        assert ("datasets", command.name) in used or command.name == "list"


def test_the_reference_of_commands_is_what_the_program_says():
    assert read(ROOT / "docs" / "cli.md") == reference.page(), "print it again, as its first lines say"


def test_the_picture_shows_the_stored_results():
    def words(drawing):
        return re.sub(r"<style>.*?</style>|<[^>]*>", " ", drawing, flags=re.DOTALL).split()

    drawing = read(ROOT / "docs" / "compare.svg")
    assert words(drawing) == words(picture.picture()), "draw it again, as tests/support/picture.py says"
    assert "url(http" not in drawing and "@import" not in drawing  # nothing is fetched to show it


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path):
    for link in LINK.findall(without_code(read(path))):
        if re.match(r"\w+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name) if name else path
        assert target.exists(), f"{path.name}: {link}"
        assert not anchor or anchor in anchors(target), f"{path.name}: {link}"


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_of_the_code_that_is_named_exists(path):
    for name in re.findall(r"`((?:llara_eval|adapters|benchmarks|tests)/[\w./-]+)`", read(path)):
        assert (ROOT / name).exists(), f"{path.name}: {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_stay_among_the_pages_of_the_site(page):
    links = [link for link in LINK.findall(without_code(read(page))) if not re.match(r"\w+:", link)]
    assert all("/" not in link.split("#")[0] for link in links)


def test_every_page_is_in_the_menu_of_the_site():
    site = tomllib.loads(read(ROOT / "zensical.toml"))["project"]
    assert set(re.findall(r"[\w-]+\.md", str(site["nav"]))) == {page.name for page in PAGES}


def test_every_page_begins_with_what_works():
    for page in PAGES:
        start = read(page).split("\n## ")[0]
        shown = re.search(r"^(\$ )?(llara-eval|make) |\bimport llara_eval\b", start, flags=re.MULTILINE)
        assert shown or page.name == "architecture.md", page.name


def test_links_of_the_readme_work_on_a_package_index():
    shown = runpy.run_path(str(ROOT / "setup.py"))["readme"]()
    repository = tomllib.loads(read(ROOT / "pyproject.toml"))["project"]["urls"]["Repository"]
    links = LINK.findall(without_code(shown))
    assert len(links) > 15 and len(links) == len(LINK.findall(without_code(read(README))))
    for link in links:
        view = "raw" if link.endswith(".svg") else "blob"
        assert link.startswith(f"{repository}/{view}/main/")
        assert (ROOT / link.removeprefix(f"{repository}/{view}/main/").split("#")[0]).exists()


def test_addresses_of_the_project_are_those_of_its_repository():
    urls = tomllib.loads(read(ROOT / "pyproject.toml"))["project"]["urls"]
    for address in urls.values():
        assert address.startswith(urls["Repository"])
        path = address.removeprefix(urls["Repository"])
        assert not path.startswith("/blob/main/") or (ROOT / path.removeprefix("/blob/main/")).exists()


def test_the_leaderboard_of_the_readme_is_measured_or_published():
    row = r"^\| [^|]+ \| ([.\d]+\*?) \| ([.\d]+\*?) \| `llara-eval \w+ (?:-m|--system) (\S+) .+` \|$"
    rows = re.findall(row, read(README), flags=re.MULTILINE)
    assert [system for *_, system in rows][:2] == ["repllama", "bm25"] and len(rows) == 5
    with (DATA / "published.csv").open(encoding="utf-8") as file:
        published = {
            (row["system"], row["dataset"]): float(row["value"])
            for row in csv.DictReader(file)
            if row["measure"] == "nDCG@10"
        }
    for *values, system in rows:
        for value, dataset in zip(values, ("scifact", "arguana"), strict=True):
            if value.endswith("*"):
                assert float(value[:-1]) == published[REPLLAMA, f"beir/{dataset}"]
            else:
                result = json.loads(read(ROOT / "runs" / system / f"beir--{dataset}" / "result.json"))
                assert f"0{value}" == f"{result['measures']['nDCG@10']['mean']:.4f}"


def test_every_version_that_is_installed_is_pinned_once():
    lines = read(ROOT / "constraints.txt").split("\n")
    names = [line.split("==")[0].lower() for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.+!-]+", line) for line in lines if line)
    assert len(names) == len(set(names)) > 100
