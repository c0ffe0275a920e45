"""Frameworks by their manifests: what is found, and what is said of one that cannot be used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from faceoff.commands.inventory import take_inventory
from faceoff.core.errors import InputError
from faceoff.core.own import Input, Port, PortSide, Targets
from faceoff.core.spec import MODEL_KINDS, STEPS, DenseSpec, Optimiser, RnnSpec, Workload
from faceoff.frameworks.configuration import read_configuration
from faceoff.frameworks.contenders import all_contenders, parse_contenders
from faceoff.frameworks.manifest import FILE, read_manifest
from faceoff.frameworks.registry import FRAMEWORKS, OURS, hidden_modules
from faceoff.run.identity import identify
from faceoff.run.options import make_options

PLAIN = """
contract = 1
name = "plain"
title = "Plain"
module = "numpy"
distributions = ["numpy"]
[modes.eager]
"""


def written(folder: Path, text: str = PLAIN) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_text(text)
    return folder


@pytest.fixture
def working(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder of its own."""
    monkeypatch.chdir(tmp_path)
    FRAMEWORKS.forget()
    yield tmp_path
    FRAMEWORKS.forget()


def name_in_toml(folder: Path, **places: str) -> None:
    lines = [f'[frameworks.{name}]\npath = "{path}"\n' for name, path in places.items()]
    (folder / "faceoff.toml").write_text("".join(lines))


def test_the_project_s_folders_all_have_a_manifest_of_their_name() -> None:
    folders = [path for path in OURS.iterdir() if (path / "runtime.py").exists()]
    assert len(folders) >= 3
    for folder in folders:
        framework = read_manifest(folder)
        assert framework.name == folder.name
        assert framework.folder == folder
        for setting in framework.settings.values():
            assert set(setting.models) <= set(MODEL_KINDS)
            assert set(setting.steps) <= set(STEPS)


def test_a_folder_that_faceoff_toml_names_is_a_framework_like_any_other(working: Path) -> None:
    written(working / "elsewhere" / "plain")
    name_in_toml(working, plain="elsewhere/plain")
    assert FRAMEWORKS["plain"].folder.samefile(working / "elsewhere" / "plain")
    assert "plain:eager" in map(str, all_contenders())
    assert [str(contender) for contender in parse_contenders(["plain"])] == ["plain:eager"]
    assert read_configuration().frameworks["plain"].path == "elsewhere/plain"
    # After the project's own.
    assert list(FRAMEWORKS)[-1] == "plain"


def test_an_installed_package_names_its_folder_and_one_that_is_gone_stops_no_other(
    working: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(working / "site" / "faceoff_plain")
    about = working / "site" / "faceoff_plain-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: faceoff-plain\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[faceoff.frameworks]\nplain = faceoff_plain\ngone = nowhere.at.all\n")
    monkeypatch.syspath_prepend(working / "site")
    assert FRAMEWORKS["plain"].folder == working / "site" / "faceoff_plain"
    assert "cannot be read" in str(FRAMEWORKS.broken["gone"])
    assert len(FRAMEWORKS) > 1


def test_the_modules_of_others_are_hidden_but_for_those_that_it_needs(working: Path) -> None:
    needed = FRAMEWORKS["jax"].module
    written(working / "plain", f'needs = ["{needed}"]\n{PLAIN}')
    name_in_toml(working, plain="plain")
    FRAMEWORKS.forget()
    assert needed not in hidden_modules("plain")
    assert "numpy" not in hidden_modules("plain")
    assert {"torch", "tensorflow"} <= set(hidden_modules("plain"))
    # No worker runs without it.
    assert "numpy" not in hidden_modules("jax")


def test_a_mode_whose_library_the_system_lacks_is_none_of_its_users(working: Path) -> None:
    written(working / "plain", f'{PLAIN}[modes.library]\nlibrary = "nowhere-at-all"\n')
    name_in_toml(working, plain="plain")
    FRAMEWORKS.forget()
    assert FRAMEWORKS["plain"].modes_on("cpu") == ("eager",)
    assert [str(contender) for contender in parse_contenders(["plain"])] == ["plain:eager"]
    with pytest.raises(InputError, match="its library is not there; got 'plain:library' without nowhere-at-all"):
        parse_contenders(["plain:library"])
    assert take_inventory()["frameworks"]["plain"]["without"] == {"plain:library": "nowhere-at-all"}


def test_what_is_shared_lies_beside_the_folder_and_counts_as_its_code(working: Path) -> None:
    folder = written(working / "plain", f'on_request = true\nshares = ["common"]\n{PLAIN}')
    with pytest.raises(InputError, match=r"framework.toml: shares: no such folder; got .*common"):
        read_manifest(folder)
    (working / "common").mkdir()
    text = working / "common" / "kernels.cl"
    text.write_text("one")
    name_in_toml(working, plain="plain")
    FRAMEWORKS.forget()
    assert [shared.resolve() for shared in FRAMEWORKS["plain"].shared_folders] == [text.parent.resolve()]
    assert "plain" not in FRAMEWORKS.usual
    assert "plain" in FRAMEWORKS.with_those_on_request
    options = make_options("agree", contenders=["plain"], models=["dense"], preset="small", out=working / "out")
    before = identify(options, {}).code
    text.write_text("two")
    assert identify(options, {}).code != before


def test_what_a_framework_does_not_offer_is_said_in_words(working: Path) -> None:
    can = '[can]\nmodels = ["dense"]\ndtypes = ["float32"]\noptimisers = ["sgd"]\n'
    framework = read_manifest(written(working / "plain", PLAIN + can))
    dense = Workload(DenseSpec((3, 2)), 4)
    assert framework.lacks(dense) == ""
    assert framework.lacks(dense.replace(dtype="float64")) == "Plain offers no float64 here"
    assert framework.lacks(dense.replace(optimiser=Optimiser("adam"))) == "Plain offers no adam here"
    assert framework.lacks(Workload(RnnSpec(3, 2, 2, 4), 4)) == "Plain offers no rnn models here"
    # A mode may be for built-in models alone, as the mode `tuned` always is.
    port = Port(
        "mine", (Input("x", (3,)),), Targets((3,)), "squared-error", -1, {}, {"plain": PortSide("", {})}, "plain"
    )
    own = Workload(port.spec, 4)
    framework = read_manifest(written(working / "plain", PLAIN + "[modes.fast]\nown_models = false\n"))
    assert framework.lacks(own) == framework.lacks(own, mode=next(iter(framework.modes))) == ""
    for mode in ("fast", "tuned"):
        assert framework.lacks(own, mode=mode) == f"Plain runs built-in models only in the mode {mode}"
    # Who says nothing offers everything.
    assert FRAMEWORKS[next(iter(FRAMEWORKS))].lacks(dense.replace(dtype="bfloat16")) == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = 3 =", "cannot be read"),
        (
            PLAIN.replace("contract = 1", "contract = 7"),
            "written for another version of the contract; got 7, expected 1",
        ),
        (PLAIN.replace('"plain"', '"other"'), "the folder is another framework's; got 'other', expected 'plain'"),
        (PLAIN.replace("[modes.eager]", ""), "modes: field required"),
        (PLAIN + 'devices = ["tpu"]\n', "unknown device 'tpu', expected some of cpu, gpu"),
        (PLAIN + 'compilers = { tpu = "C" }\n', "unknown device 'tpu', expected some of cpu, gpu"),
        (PLAIN + '[variables_on.tpu]\nA = "1"\n', "unknown device 'tpu', expected some of cpu, gpu"),
        (PLAIN + "[errors]\nmissing_words = []\n", "errors.missing_words: "),
        (PLAIN + '[can]\nsteps = ["training"]\n', "expected inference, inference and gradients, or all"),
        (PLAIN + '[can]\nmodels = ["gru"]\n', "unknown model 'gru', expected some of dense, residual, rnn, lstm"),
        (PLAIN + 'colour = "red"\n', "modes.eager.colour: extra inputs are not permitted; got 'red'"),
        (PLAIN.replace('"plain"', '"Pl ain"'), "name: "),
    ],
)
def test_a_manifest_that_cannot_be_used_is_told_and_stops_no_other(working: Path, text: str, said: str) -> None:
    written(working / "plain", text)
    name_in_toml(working, plain="plain")
    assert set(FRAMEWORKS) == {path.name for path in OURS.iterdir() if (path / FILE).exists()}
    assert said in str(FRAMEWORKS.broken["plain"])
    with pytest.raises(InputError) as raised:
        parse_contenders(["plain:eager"])
    assert said in str(raised.value)
    notices = make_options("agree", preset="small", models=["dense"], out=working / "out").notices
    assert [notice for notice in notices if notice.startswith("plain is left out: ") and said in notice]


def test_a_folder_that_is_gone_and_a_name_that_is_taken_are_told(working: Path) -> None:
    first = next(iter(FRAMEWORKS))
    FRAMEWORKS.forget()
    written(working / "mine", PLAIN.replace('"plain"', f'"{first}"'))
    name_in_toml(working, gone="nowhere", **{first: "mine"})
    assert "No such file" in str(FRAMEWORKS.broken["gone"])
    assert "two frameworks of one name" in str(FRAMEWORKS.broken[first])
    assert FRAMEWORKS[first].folder == OURS / first
