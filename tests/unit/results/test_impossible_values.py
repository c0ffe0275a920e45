"""A file of valid form whose values cannot be true is refused in a line, wherever it is read."""

import json
import zlib

import pytest

from faceoff.commands.cli import main
from faceoff.commands.summary import print_summary
from faceoff.core.errors import ResultFileError
from faceoff.report import to_csv, to_markdown
from faceoff.results.file import KEY, load, save
from faceoff.results.records import NoiseFloor
from tests.unit.results.samples import MODELS, main_job

IMPOSSIBLE = [
    ("cases.0.speed.rounds_s", []),
    ("cases.0.speed.rounds_s.0", -0.001),
    ("cases.0.speed.rounds_s.0", 0),
    ("cases.0.speed.rounds_s.0", "inf"),
    ("cases.0.speed.rounds_s.0", 1e300),
    ("cases.0.speed.iterations", 0),
    ("cases.0.speed.warmup_calls", -1),
    ("cases.0.speed.time_s", -1.0),
    ("cases.0.speed.interval_s", [2.0, 1.0]),
    ("cases.0.speed.latency_s.0", -1.0),
    ("cases.0.speed.processes.0.passes", 10_000),
    ("cases.0.speed.processes.0.disturbed", [10_000]),
    ("cases.0.speed.processes.0.stolen_s", -1.0),
    ("cases.0.workload.colour", "blue"),
    ("cases.0.workload.batch_size", 0),
    ("agreements.0.workload.model", {"kind": "none"}),
    ("agreements.0.quantities.0.limit", 0),
    ("comparisons.0.ratio", 0),
    ("comparisons.0.p_value", 1.5),
    ("cold_starts.0.import_s", -2.0),
    ("training_runs.0.accuracy", 1.5),
    ("training_runs.0.workload", {}),
    ("gradient_norms.0.norms", [1.0]),
    ("gradient_norms.0.norms", []),
    ("gradient_norms.0.distances", []),
    ("gradient_norms.0.underflow", [10_000]),
    ("duration_s", "inf"),
    ("duration_s", -1.0),
    ("threads", 0),
]


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "r.json"
    save(main_job(), path)
    load(path)
    return path.read_text()


def planted(text, place, value):
    """The document with one value changed; a field that is not there yet is added."""
    document = json.loads(text)
    *way, last = place.split(".")
    at = document[KEY]
    for step in way:
        at = at[int(step) if isinstance(at, list) else step]
    at[int(last) if isinstance(at, list) else last] = value
    return json.dumps(document)


@pytest.mark.parametrize(("place", "value"), IMPOSSIBLE, ids=lambda value: str(value)[:40])
def test_a_value_that_cannot_be_true_is_refused_with_its_place(sound, place, value, tmp_path):
    path = tmp_path / "r.json"
    path.write_text(planted(sound, place, value))
    with pytest.raises(ResultFileError) as caught:
        load(path)
    part = place.split(".0")[0].split(".")[0]
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("command", [["report", "--format", "csv"], ["report"], ["diff", "sound.json"]])
def test_no_command_ends_with_a_traceback(sound, command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.json").write_text(planted(sound, "cases.0.speed.rounds_s", []))
    (tmp_path / "sound.json").write_text(sound)
    with pytest.raises(SystemExit) as ended:
        main([*command, "r.json"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def line(entry):
    text = json.dumps(entry)
    return f'{{"crc32":"{zlib.crc32(text.encode()):08x}","entry":{text}}}\n'


@pytest.mark.parametrize(
    ("field", "value"),
    [("elapsed_s", "inf"), ("elapsed_s", -1), ("cases", [{"name": "a", "contender": "a:b", "outcome": "ok"}])],
)
def test_a_journal_is_held_to_the_same(field, value, tmp_path, capsys):
    identity = {"command": "bench", "asked": {}, "workloads": [], "machine": {}, "versions": {}, "code": ""}
    begin = {"kind": "run", "schema_version": 2, "created": "", "command_line": "", "identity": identity}
    unit = {"kind": "unit", "key": "one", "elapsed_s": 1.0, field: value}
    (tmp_path / "journal.jsonl").write_text(line(begin) + line(unit))
    with pytest.raises(SystemExit) as ended:
        main(["bench", "--resume", str(tmp_path)])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert "line 2" in error
    assert "make room" not in error


def test_a_number_that_was_not_finite_loads_again(tmp_path):
    result = main_job()
    floor = NoiseFloor(workload="w", resolvable=float("inf"), twins={"a": float("nan")}, disturbed=0.1, noisy=False)
    result.noise_floors = [floor]
    result.comparisons[0].interval = (0.5, float("inf"))
    save(result, tmp_path / "r.json")
    assert load(tmp_path / "r.json").noise_floors[0].disturbed == 0.1


def lists_in(value, way=()):
    """The places of all lists, one for each kind."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from lists_in(item, (*way, key))
    elif isinstance(value, list):
        yield way
        for item in value[:1]:
            yield from lists_in(item, (*way, 0))


def test_a_list_that_is_empty_is_refused_or_shown_and_ends_in_no_traceback(tmp_path, capsys):
    path = tmp_path / "r.json"
    # One contender beside the baseline and one model have a record of each kind.
    save(main_job(("pytorch:eager", "jax:jit"), MODELS[2:3]), path)
    sound = path.read_text()
    places = list(lists_in(json.loads(sound)[KEY]))
    assert len(places) > 30
    refused = 0
    for place in places:
        path.write_text(planted(sound, ".".join(map(str, place)), []))
        try:
            result = load(path)
        except ResultFileError:
            refused += 1
            continue
        print_summary(result, path, path)
        to_markdown([("r", result)])
        to_csv([("r", result)])
        save(result, path)
    assert 5 < refused < len(places)
