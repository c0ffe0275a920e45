"""What `port.toml` may say; every fault in one line with what was found, what would be right, and what to do."""

import pytest

from faceoff.core.errors import InputError
from faceoff.core.own import Input, Targets
from faceoff.frameworks.registry import FRAMEWORKS
from faceoff.ports.manifest import read_port

# Either can be the reference.
ONE, TWO, *_ = [name for name in FRAMEWORKS.usual if FRAMEWORKS[name].can.noise]
UNABLE = next(name for name in FRAMEWORKS.usual if not FRAMEWORKS[name].can.noise)
WHOLE = f"""
name = "encoder"
reference = "{TWO}"
loss = "cross-entropy"
class_axis = 1
[inputs.tokens]
shape = [16]
dtype = "int64"
below = 1000
[inputs.image]
shape = [3, 8, 8]
scale = 2
[targets]
shape = [16]
classes = 10
[sides.{ONE}]
file = "mine.py"
inputs.image = [0, 2, 3, 1]
[sides.{TWO}.weights]
'(.*)\\.w' = {{ to = '\\1.weight', axes = [1, 0] }}
'packed' = {{ to = ["q.weight", "k.weight"], along = 1 }}
'second' = {{ zero = true }}
"""
SMALL = f"""
loss = "squared-error"
inputs.x.shape = [3]
[sides.{ONE}]
"""


@pytest.fixture
def folder(tmp_path):
    found = tmp_path / "my-model"
    found.mkdir()
    for name in ("mine", f"{ONE}_model", f"{TWO}_model"):
        (found / f"{name}.py").write_text("raise SystemExit('nobody imports this')\n")
    return found


def written(folder, text, name="port.toml"):
    (folder / name).write_text(text)
    return folder if name == "port.toml" else folder / name


def refused(folder, text):
    with pytest.raises(InputError) as told:
        read_port(written(folder, text))
    line = str(told.value)
    assert "\n" not in line
    assert line.startswith(str(folder / "port.toml"))
    assert told.value.next_step or "unknown framework" in line
    return line.removeprefix(str(folder / "port.toml") + ": ")


def test_all_that_can_be_said(folder):
    port = read_port(written(folder, WHOLE))
    assert (port.name, port.reference, port.loss, port.class_axis) == ("encoder", TWO, "cross-entropy", 1)
    assert port.inputs_of_port() == (Input("tokens", (16,), "int64", 1000), Input("image", (3, 8, 8), scale=2.0))
    assert port.targets_of_port() == Targets((16,), 10)
    assert port.file_of(ONE) == folder.resolve() / "mine.py"
    assert port.file_of(TWO) == folder.resolve() / f"{TWO}_model.py"
    assert port.sides[ONE].inputs == {"image": (0, 2, 3, 1)}
    rules = port.sides[TWO].weights
    assert rules["(.*)\\.w"].axes == (1, 0)
    assert rules["packed"].to == ("q.weight", "k.weight")
    assert rules["second"].zero


def test_a_reference_whose_noise_cannot_be_measured_is_not_offered(folder):
    (folder / f"{UNABLE}_model.py").write_text("")
    text = SMALL.replace("[sides", f"[sides.{UNABLE}]\n[sides")
    told = refused(folder, text)
    assert told.startswith("reference: not offered: a reference side must be one whose rounding noise can be measured")
    assert f"got '{UNABLE}', expected a side in {FRAMEWORKS[ONE].title} or {FRAMEWORKS[TWO].title}" in told
    assert told.endswith(f'write reference = "{ONE}"')
    assert refused(folder, text.replace(f"[sides.{ONE}]\n", "")).endswith("add such a side")
    assert read_port(written(folder, f'reference = "{ONE}"\n{text}')).reference == ONE


def test_what_need_not_be_said(folder):
    port = read_port(written(folder, SMALL))
    assert (port.name, port.reference, port.class_axis) == ("my-model", ONE, -1)
    assert port.targets_of_port() == Targets(())
    assert read_port(written(folder, SMALL, "tiny.toml")).name == "tiny"
    binary = read_port(written(folder, SMALL.replace("squared-error", "binary-cross-entropy")))
    assert binary.targets_of_port().classes == 2


def test_no_manifest(tmp_path):
    for path, said in ((tmp_path, "no manifest in this folder"), (tmp_path / "no", "no such folder")):
        with pytest.raises(InputError, match=said):
            read_port(path)
    with pytest.raises(InputError, match="cannot be read; got No such file"):
        read_port(tmp_path / "no.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read"):
        read_port(tmp_path / "bytes.toml")


@pytest.mark.parametrize(
    ("told", "instead", "said"),
    [
        ('name = "encoder"', 'name = "a b"', "name: not a name; got 'a b', expected letters, digits, - and _; write"),
        ('name = "encoder"', "name = 3", "name: input should be a valid string; got 3, expected letters"),
        ('name = "encoder"', "path = 3", "path: unknown key; got 'path', expected some of name, reference, loss"),
        ('name = "encoder"', "nam = 3", "nam: unknown key; got 'nam', expected some of name"),
        ('name = "encoder"', "name = ", "cannot be read; got Invalid value"),
        (f'reference = "{TWO}"', 'reference = "other"', "reference: no such side; got 'other', expected one of"),
        ('loss = "cross-entropy"', "", "loss: key missing; expected one of cross-entropy, squared-error"),
        ('loss = "cross-entropy"', 'loss = "hinge"', "expected one of cross-entropy, squared-error"),
        ("class_axis = 1", "class_axis = 1.5", "class_axis: input should be a valid integer"),
        ("class_axis = 1", "class_axis = true", "class_axis: input should be a valid integer"),
        ("[inputs.tokens]", "[inputs.h0]", "inputs.h0: this name belongs to the built-in recurrent models"),
        ("[inputs.tokens]", "[inputs.c0]", "inputs.c0: this name belongs"),
        ("below = 1000", "", "inputs.tokens.below: whole numbers without a bound; expected a whole number of at"),
        ("below = 1000", "below = 0", "inputs.tokens.below: input should be greater than or equal to 1; got 0"),
        ("below = 1000", "below = 9\nscale = 1.0", "inputs.tokens.scale: has no meaning here; got 1.0"),
        ("below = 1000", "below = 9\nbound = 1", "inputs.tokens.bound: unknown key; got 'bound', expected some of"),
        ("scale = 2", "below = 2", "inputs.image.below: has no meaning here; got 2, expected no bound"),
        ("scale = 2", "scale = 0", "inputs.image.scale: input should be greater than 0; got 0"),
        ("scale = 2", "scale = nan", "inputs.image.scale: input should be a finite number; got nan"),
        ("shape = [3, 8, 8]", "shape = [3, 0]", "inputs.image.shape.1: input should be greater than or equal to 1"),
        ("shape = [3, 8, 8]", "shape = 3", "inputs.image.shape: input should be a valid tuple; got 3, expected sizes"),
        ("shape = [3, 8, 8]", "", "inputs.image.shape: key missing; expected sizes"),
        ('dtype = "int64"', 'dtype = "int32"', "inputs.tokens.dtype: input should be 'float' or 'int64'; got 'int32'"),
        ("classes = 10", "", "targets.classes: a cross-entropy without classes; expected a whole number of at least 2"),
        ("classes = 10", "classes = 1", "targets.classes: a cross-entropy without classes; got 1"),
        ("classes = 10", "classes = 10\nscale = 2.0", "targets.scale: has no meaning here; got 2.0"),
        ('"cross-entropy"', '"squared-error"', "targets.classes: has no meaning here; got 10, expected numbers"),
        ('"cross-entropy"', '"binary-cross-entropy"', "targets.classes: has no meaning here; got 10, expected 2"),
        ("inputs.image = [0, 2, 3, 1]", "inputs.x = [0, 1]", "inputs: no such input; got 'x', expected one of tokens"),
        ("[0, 2, 3, 1]", "[0, 2, 1]", "inputs.image: not a permutation of the input's axes; got [0, 2, 1], expected 0"),
        ("[0, 2, 3, 1]", "[0, 2, 3, -1]", "input should be greater than or equal to 0; got -1"),
        ('file = "mine.py"', 'file = "other.py"', "file: no such file; got"),
        ('file = "mine.py"', "files = 1", "files: unknown key; got 'files', expected some of file, inputs, weights"),
        (f"[sides.{ONE}]", "[sides.nothing]", "sides.nothing: unknown framework; got 'nothing'"),
        ("'packed'", "'(packed'", "not a regular expression; got missing )"),
        ("axes = [1, 0]", "axes = [1, 1]", "axes: not a permutation; got [1, 1], expected a permutation of axes"),
        ("axes = [1, 0]", "axis = [1, 0]", "axis: unknown key; got 'axis', expected some of to, along, axes"),
        ("axes = [1, 0]", "axes = [0], shape = [1, 2]", "not as many axes as sizes; got axes [0], shape [1, 2]"),
        ("'\\1.weight'", "'\\2.weight'", "to: a group that is not there; got \\2.weight, expected up to 1; put"),
        ("'\\1.weight'", "3", "expected a canonical name, or several in their order"),
        ("zero = true", "zero = true, along = 1", "along: has no meaning here; got 1, expected zero = true alone"),
        ("zero = true", "along = 1", "a rule that says nothing; expected to, along, axes, shape, zero; say"),
        ("zero = true", "", "a rule that says nothing"),
    ],
)
def test_every_fault_is_one_line(folder, told, instead, said):
    assert told in WHOLE
    assert said in refused(folder, WHOLE.replace(told, instead, 1))


def test_a_class_axis_needs_classes(folder):
    assert "class_axis: has no meaning here; got 1" in refused(folder, "class_axis = 1\n" + SMALL)


def test_canonical_shapes_are_the_references(folder):
    text = WHOLE.replace(f'reference = "{TWO}"', f'reference = "{ONE}"').replace("axes = [1, 0]", "shape = [2]")
    assert "shape: canonical shapes are the reference's; got [2]" in refused(folder, text)


def test_a_folder_whose_name_is_none(folder):
    odd = folder.rename(folder.parent / "my model")
    assert "name: not a name; got 'my model'" in refused(odd, SMALL)
