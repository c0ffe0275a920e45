"""The READMEs: short where a newcomer begins, no broken link, no file or option that is not there, every room named."""

import ast
import re
from pathlib import Path

import pytest

from faceoff.commands.reference import reference
from faceoff.pytest_plugin import OPTIONS
from faceoff.workloads.presets import PRESETS
from tests.meta.test_imports import ROOMS

ROOT = Path(__file__).resolve().parents[2]
FRONT = ROOT / "README.md"
# Written by hand; the reference of the command line is generated.
READMES = [FRONT, *(ROOT / folder / "README.md" for folder in (
    "harness", *(f"harness/faceoff/{room}" for room in ("agreement", "speed", "defaults", "report")),
    "impls", "reports", "reports/published/ports", "tests",
))]  # fmt: skip
FOLDERS = ("harness/", "impls/", "reports/published/", "tests/", ".ci/")
# Code with options of other programs, and options of studies.
FOREIGN = re.compile(r"pytest|--benchmark|xla_cpu|pip install")
OF_STUDIES = {
    "--part", "--add", "--minutes", "--conditions", "--runs", "--folder", "--work", "--before", "--rehearse", "--there",
}  # fmt: skip


def names() -> list[str]:
    return [str(path.relative_to(ROOT)) for path in READMES]


def anchors(text: str) -> set[str]:
    """What headings are called in links, as GitHub makes it."""
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def spans(text: str) -> list[str]:
    """What stands as code: blocks line by line, and spans."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    return [*(line for block in blocks for line in block.splitlines()), *re.findall(r"`([^`]+)`", rest)]


def test_the_front_door_is_short():
    assert len(FRONT.read_text().splitlines()) <= 150


@pytest.mark.parametrize("name", names())
def test_lines_of_text_are_short(name):
    for line in (ROOT / name).read_text().splitlines():
        assert len(line) <= 127 or line.startswith("|"), line


@pytest.mark.parametrize("name", names())
def test_links_lead_somewhere(name):
    path = ROOT / name
    for link in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target.read_text()), link


@pytest.mark.parametrize("name", names())
def test_named_files_are_there(name):
    for span in spans((ROOT / name).read_text()):
        # What a command writes need not be there.
        for word in re.findall(r"[\w.*/-]+", re.sub(r"(-o|--out) \S+", "", span)):
            if word.startswith(FOLDERS):
                assert list(ROOT.glob(word.rstrip("./"))), word


@pytest.mark.parametrize("name", names())
def test_named_modules_are_there(name):
    for span in spans((ROOT / name).read_text()):
        for word in re.findall(r"-m ((?:tests|faceoff)(?:\.\w+)*)", span):
            path = (ROOT / "harness" if word.startswith("faceoff") else ROOT) / word.replace(".", "/")
            assert path.is_dir() or path.with_name(f"{path.name}.py").is_file(), word


@pytest.mark.parametrize("name", names())
def test_options_and_presets_are_those_of_the_command(name):
    known = reference() + "\n".join(f"--faceoff-{option}" for option in OPTIONS)
    for span in spans((ROOT / name).read_text()):
        if not FOREIGN.search(span):
            for option in re.findall(r"(?<![\w-])--[a-z][\w-]*", span):
                assert option in OF_STUDIES or re.search(rf"{option}\b(?!-)", known), (option, span)
        for preset in re.findall(r"--preset ([a-z-]+)", span):
            assert preset in PRESETS


def test_every_file_is_reached_from_the_front_door():
    text = FRONT.read_text()
    for path in [*READMES[1:], ROOT / "harness" / "faceoff" / "commands" / "README.md"]:
        assert f"({path.relative_to(ROOT)})" in text


def test_every_room_is_described():
    rows = re.findall(r"^\| `faceoff/(\w+)` \|", (ROOT / "harness" / "README.md").read_text(), re.M)
    assert tuple(rows) == ROOMS


def test_every_study_is_named():
    text = (ROOT / "tests" / "README.md").read_text()
    folder = ROOT / "tests" / "calibration"
    for path in (*folder.glob("*.py"), *folder.glob("*/__main__.py")):
        if "python -m" in (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n")[0]:
            name = path.stem if path.parent == folder else path.parent.name
            assert f"| `tests.calibration.{name}` |" in text, path


def test_every_published_file_is_listed():
    text = (ROOT / "reports" / "README.md").read_text()
    for path in (ROOT / "reports" / "published").iterdir():
        assert f"`{path.name}`" in text, path
