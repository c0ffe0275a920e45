"""The journal: what is written comes back, damage is said and costs no more than it must."""

import errno
import json
import math
import os

import pytest

from faceoff.commands.summary import print_summary
from faceoff.core.errors import InputError, ResultFileError
from faceoff.results.records import NoiseFloor, Result
from faceoff.run.engine import make_plan
from faceoff.run.identity import identify, require_same, require_same_settings
from faceoff.run.journal import LISTS, NAME, Begin, Journal, Mark, Unit, read, resume_command, to_line
from faceoff.run.options import make_options
from faceoff.run.resuming import resumed_options
from faceoff.run.starting import blank_result
from faceoff.speed.measure import decide
from tests.unit.results.samples import main_job

MACHINE = {"processor": "abacus", "cores": 2, "memory_bytes": 8 << 30}


@pytest.fixture
def options(tmp_path):
    return make_options(
        "compare", preset="small", models=["dense"], contenders=["jax"], out=tmp_path / "out", budget="quick", threads=1
    )


@pytest.fixture
def begin(options):
    return Begin(
        created="2026-01-02T03:04:05+00:00",
        command_line=options.command_line(),
        identity=identify(options, MACHINE),
    )


@pytest.fixture
def path(options):
    return options.out / NAME


def empty(options) -> Result:
    result = blank_result(options)
    for name in LISTS:
        assert getattr(result, name) == []
    return result


def write(options, begin, keys=("one", "two", "three")) -> Result:
    """A journal whose units each hold a part of the main job; returns all that they hold."""
    whole, result = main_job(), empty(options)
    with Journal(options.out, begin, resume=False) as journal:
        for index, key in enumerate(keys):
            with journal.unit(key, result):
                for name in LISTS:
                    getattr(result, name).extend(getattr(whole, name)[index :: len(keys)])
    return result


def resume(options, begin, keys=("one", "two", "three")) -> tuple[Result, Journal]:
    result = empty(options)
    with Journal(options.out, begin, resume=True) as journal:
        journal.take_over(keys, result)
    return result, journal


def lists(result) -> dict[str, list]:
    return {name: getattr(result, name) for name in LISTS}


def test_units_come_back_as_they_were_and_in_the_order_of_the_run(options, begin):
    written = write(options, begin)
    result, journal = resume(options, begin)
    assert lists(result) == lists(written)
    assert sum(map(len, lists(result).values())) > 50
    assert journal.contents.notices == []
    assert journal.contents.resumed == 1
    assert journal.elapsed_s > 0


def test_every_line_is_strict_json(options, begin, path):
    write(options, begin)

    def refuse(word):
        raise AssertionError(word)

    lines = path.read_text().splitlines()
    assert [json.loads(line, parse_constant=refuse)["entry"]["kind"] for line in lines] == ["run", *["unit"] * 3]


def test_a_number_that_is_not_finite_is_not_lost(path):
    floor = NoiseFloor(workload="w", resolvable=math.inf, twins={"a": math.nan}, disturbed=0.1, noisy=False)
    entry = json.loads(to_line(Unit(key="k", elapsed_s=1.0, noise_floors=[floor])))["entry"]
    found = Unit.model_validate(entry).noise_floors[0]
    assert found.resolvable == math.inf
    assert math.isnan(found.twins["a"])
    assert found.disturbed == 0.1


def test_a_last_line_that_was_cut_off_anywhere_is_dropped_with_a_notice_and_nothing_else(options, begin, path):
    written = write(options, begin)
    whole = path.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    for length in (last + 1, last + 9, (last + len(whole)) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        contents = read(path)
        assert list(contents.units) == ["one", "two"]
        assert len(contents.notices) == 1
        assert f"{path}, line 4: cut off" in contents.notices[0]
    # Going on writes no new line onto the remains.
    result, _ = resume(options, begin)
    assert result.agreements == written.agreements[: len(result.agreements)] or result.agreements
    with Journal(options.out, begin, resume=True) as journal, journal.unit("three", result):
        pass
    assert list(read(path).units) == ["one", "two", "three"]
    assert read(path).notices == []
    assert read(path).resumed == 2


def test_a_last_line_of_zeros_as_a_power_cut_leaves_it_is_dropped(options, begin, path):
    write(options, begin)
    with path.open("ab") as file:
        file.write(b"\0" * 4096)
    assert list(read(path).units) == ["one", "two", "three"]
    assert len(read(path).notices) == 1


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("spoil", [lambda line: line[:40] + b"\n", lambda line: line.replace(b'"key"', b'"kex"', 1)
                                   .replace(b'"created"', b'"creates"', 1)], ids=["cut", "changed"])  # fmt: skip
def test_damage_before_the_last_line_is_an_error_that_names_the_line(options, begin, path, number, spoil):
    write(options, begin)
    lines = path.read_bytes().splitlines(keepends=True)
    spoilt = spoil(lines[number - 1])
    assert spoilt != lines[number - 1]
    path.write_bytes(b"".join([*lines[: number - 1], spoilt, *lines[number:]]))
    with pytest.raises(ResultFileError, match=rf"{NAME}, line {number}: damaged"):
        read(path)
    # What can still be read is not written over by another run.
    before = path.read_bytes()
    with pytest.raises(InputError):
        Journal(options.out, begin, resume=False)
    assert path.read_bytes() == before


def test_the_step_that_the_error_names_keeps_all_other_units(options, begin, path):
    write(options, begin)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b"rubbish\n", lines[3]]))
    with pytest.raises(ResultFileError, match="remove this line"):
        read(path)
    path.write_bytes(b"".join([*lines[:2], lines[3]]))
    assert list(read(path).units) == ["one", "three"]


def test_another_schema_is_refused_with_both_versions(options, begin, path):
    path.write_bytes(to_line(begin.model_copy(update={"schema_version": 99})))
    with pytest.raises(ResultFileError, match=r"line 1: another schema; got version 99, expected version 2"):
        read(path)


def test_a_whole_line_that_is_no_entry_is_an_error_that_names_the_line(options, begin, path):
    path.write_bytes(to_line(begin) + to_line(Unit(key="k", elapsed_s=0.0).model_copy(update={"kind": "unix"})))
    with pytest.raises(ResultFileError, match=rf"{NAME}, line 2: kind"):
        read(path)
    path.write_bytes(to_line(Mark(kind="ended")))
    with pytest.raises(ResultFileError, match=r"line 1: should say what the run is"):
        read(path)


def test_a_journal_without_a_whole_first_line_says_that_nothing_was_finished_and_may_be_written_over(
    options, begin, path
):
    for text in (b"", to_line(begin)[:-20]):
        path.write_bytes(text)
        with pytest.raises(ResultFileError, match="holds no run"):
            read(path)
        write(options, begin)
        assert len(read(path).units) == 3
        path.unlink()


def test_a_unit_that_stands_there_twice_counts_once(options, begin, path):
    written = write(options, begin)
    with path.open("ab") as file:
        file.write(path.read_bytes().splitlines(keepends=True)[2])
    result, journal = resume(options, begin)
    assert lists(result) == lists(written)
    assert journal.contents.notices == [f"{path}, line 5: two stands here again; the first one counts"]


def test_a_unit_that_did_not_come_to_its_end_is_not_kept(options, begin, path):
    with Journal(options.out, begin, resume=False) as journal:
        result = empty(options)

        def interrupted():
            with journal.unit("one", result):
                result.cases += main_job().cases
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
    assert read(path).units == {}


@pytest.mark.parametrize("fails", ["write", "fsync"])
def test_a_full_disk_ends_with_one_line_and_what_was_finished_stays_readable(options, begin, path, monkeypatch, fails):
    write(options, begin)
    real_write = os.write

    def half(descriptor, data):
        if len(data) < 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real_write(descriptor, data[: len(data) // 2])

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    result = empty(options)
    with Journal(options.out, begin, resume=True) as journal:
        with monkeypatch.context() as patched:
            patched.setattr(os, fails, half if fails == "write" else full)
            with pytest.raises(InputError) as caught, journal.unit("four", result):
                result.cases += main_job().cases
        assert caught.value.exit_status == 2
        assert "No space left on device" in str(caught.value)
        assert resume_command("compare", options.out) in str(caught.value)
        assert "\n" not in str(caught.value)
        contents = read(path)
        assert (list(contents.units), contents.notices) == (["one", "two", "three"], [])
        with journal.unit("four", result):
            pass
    assert list(read(path).units) == ["one", "two", "three", "four"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_a_journal_on_a_full_device_is_refused_before_anything_runs(options, begin, path):
    path.symlink_to("/dev/full")
    with pytest.raises(InputError, match="No space left on device"):
        Journal(options.out, begin, resume=False)


def test_an_unfinished_run_is_not_written_over_and_a_finished_one_is(options, begin, path):
    write(options, begin)
    with pytest.raises(InputError, match=r"holds an unfinished run with 3 units of work.*--resume"):
        Journal(options.out, begin, resume=False)
    assert len(read(path).units) == 3
    with Journal(options.out, begin, resume=True) as journal:
        journal.end()
    Journal(options.out, begin, resume=False).__exit__(None, None, None)
    assert read(path).units == {}


def test_two_runs_do_not_write_one_journal(options, begin):
    with Journal(options.out, begin, resume=False), pytest.raises(InputError, match="another run writes here"):
        Journal(options.out, begin, resume=True)


def test_the_summary_of_an_interrupted_run_names_the_command_that_resumes_it(options, capsys):
    result = main_job()
    result.interrupted, result.command = True, options.command_line()
    print_summary(result, options.out / "result.json", options.out / "page.html")
    assert f"resume: {resume_command('compare', options.out)}" in capsys.readouterr().out
    result.interrupted, result.resumed = False, 2
    print_summary(result, options.out / "result.json", options.out / "page.html")
    printed = capsys.readouterr().out
    assert "resumed 2 times" in printed
    assert "resume:" not in printed


def test_options_of_a_resumed_run_come_from_the_journal(options, begin):
    write(options, begin)
    resumed = resumed_options("compare", options.out, {"quiet": True})
    assert resumed.resume
    assert resumed.quiet
    assert resumed.command_line() == options.command_line()
    assert require_same(begin.identity, identify(resumed, MACHINE), options.out) is None
    assert list(make_plan(resumed, speed=True, training=True, cold_start=True)) == list(
        make_plan(options, speed=True, training=True, cold_start=True)
    )


@pytest.mark.parametrize(
    ("command", "given", "said"),
    [
        ("compare", {"seed": 7}, "seed: was 0, is 7"),
        ("compare", {"models": ["rnn"]}, "models: was .'dense'., is .'rnn'."),
        ("compare", {"contenders": ["pytorch:eager"]}, "contenders: was .'jax:jit'."),
        ("compare", {"budget": "thorough"}, "budget: was quick, is thorough"),
        ("compare", {"preset": "huge"}, "one of default, small, lecture"),
        ("compare", {"out": "elsewhere"}, "out: contradicts --resume"),
        ("agree", {}, "another command; got agree, expected compare"),
    ],
)
def test_an_option_that_contradicts_the_journal_is_refused_by_name(options, begin, command, given, said):
    write(options, begin)
    with pytest.raises(InputError, match=said):
        resumed_options(command, options.out, given)


def test_an_option_that_says_the_same_again_is_accepted(options, begin):
    write(options, begin)
    given = {"seed": 0, "models": ("dense",), "contenders": ("jax:jit",), "device": "auto", "out": str(options.out)}
    assert resumed_options("compare", options.out, given).seed == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"machine": {**MACHINE, "processor": "slide rule"}}, "machine processor: was abacus, is slide rule"),
        ({"machine": {**MACHINE, "memory_bytes": 4 << 30}}, "machine memory_bytes"),
        ({"versions": {"jax": {"jax": "0.0.1"}}}, "versions jax jax: was .*, is 0.0.1"),
        ({"code": "0" * 16}, "code: was"),
    ],
)
def test_another_machine_version_or_code_is_refused_with_what_differs(options, begin, change, said, path):
    write(options, begin)
    before = path.read_bytes()
    other = begin.model_copy(update={"identity": begin.identity.model_copy(update=change)})
    with pytest.raises(InputError, match=said):
        Journal(options.out, other, resume=True)
    assert path.read_bytes() == before


def test_a_little_more_memory_after_a_boot_is_the_same_machine(options, begin):
    write(options, begin)
    change = {"machine": {**MACHINE, "memory_bytes": (8 << 30) + 40_000}}
    other = begin.model_copy(update={"identity": begin.identity.model_copy(update=change)})
    assert other.identity != begin.identity
    _, journal = resume(options, other)
    assert journal.contents.resumed == 1


def test_settings_in_force_must_be_the_same_but_for_folders():
    then = {"threads": 2, "compilation_cache": "/tmp/a", "environment": {"NPROC": "2"}, "devices": ("cpu:0",)}
    now = {**json.loads(json.dumps(then)), "compilation_cache": "/tmp/b"}
    require_same_settings("jax:jit", then, now)
    with pytest.raises(InputError, match=r"jax:jit: cannot be resumed.*environment NPROC: was 2, is 1"):
        require_same_settings("jax:jit", then, {**now, "environment": {"NPROC": "1"}})


def test_verdicts_over_parts_are_those_of_one_run(options, begin):
    whole = main_job()
    for comparison in whole.comparisons:
        comparison.p_value = 0.02
    parts = [comparison.model_copy() for comparison in whole.comparisons]
    decide(whole.comparisons)
    result = empty(options)
    with Journal(options.out, begin, resume=False) as journal:
        for index, comparison in enumerate(parts):
            with journal.unit(str(index), result):
                result.comparisons.append(comparison)
                # By then the others are not known.
                decide(result.comparisons)
    result, _ = resume(options, begin, [str(index) for index in range(len(parts))])
    decide(result.comparisons)
    assert result.comparisons == whole.comparisons
    assert len(parts) > 3
