"""A container's share of the processors is counted, told and seen by diff; what is absent or odd says nothing."""

import pytest

from faceoff.core import cgroups
from faceoff.core.cgroups import limited_groups, processor_quota, throttled_s
from faceoff.core.errors import ResultFileError
from faceoff.differences.changes import diff
from faceoff.machine import processor
from faceoff.machine.description import describe_machine
from faceoff.machine.processor import allowed_cores, usable_cores
from faceoff.run.options import make_options
from tests.unit.results.samples import main_job


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Writes `/proc/self/cgroup` and the files of groups."""
    monkeypatch.setattr(cgroups, "OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(cgroups, "MOUNTED", tmp_path / "sys")
    (tmp_path / "sys").mkdir()

    def write(own, **files):
        (tmp_path / "own").write_text(own)
        for name, text in files.items():
            path = tmp_path / "sys" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return write


@pytest.mark.parametrize(
    ("own", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "100000 100000\n"}, 1.0),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 0.5),
        ("0::/a/b\n", {"a/cpu.max": "150000 100000", "a/b/cpu.max": "max 100000"}, 1.5),
        ("0::/a/b\n", {"a/cpu.max": "150000 100000", "a/b/cpu.max": "400000 100000"}, 1.5),
        # A container whose path is the host's sees its own group as the root.
        ("0::/docker/0123\n", {"cpu.max": "200000 100000"}, 2.0),
        (
            "5:memory:/x\n4:cpu,cpuacct:/a\n",
            {"cpu,cpuacct/a/cpu.cfs_quota_us": "300000\n", "cpu,cpuacct/a/cpu.cfs_period_us": "100000\n"},
            3.0,
        ),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ("0::/\n", {"cpu.max": ""}, None),
        ("0::/\n", {"cpu.max": "many of them\n"}, None),
        ("0::/\n", {"cpu.max": "100000 0\n"}, None),
        ("no groups at all", {}, None),
        ("", {}, None),
        ("0::/../..\n", {}, None),
    ],
)
def test_the_tightest_limit_of_all_groups_counts(groups, own, files, quota):
    groups(own, **files)
    assert processor_quota() == quota


def test_threads_are_no_more_than_whole_processors_worth_of_time(groups, monkeypatch, tmp_path):
    monkeypatch.setattr(processor, "allowed_cores", lambda: 4)
    for text, cores in (("100000 100000", 1), ("150000 100000", 1), ("250000 100000", 2), ("900000 100000", 4)):
        groups("0::/\n", **{"cpu.max": text})
        assert usable_cores() == cores
    groups("0::/\n", **{"cpu.max": "10000 100000"})
    assert usable_cores() == 1


def test_a_run_counts_them_and_tells(groups, tmp_path):
    groups("0::/\n", **{"cpu.max": "100000 100000"})
    options = make_options("bench", preset="small", models=["dense"], contenders=["jax"], out=tmp_path / "out")
    assert options.threads == 1
    told = any("processor time of 1 of" in notice for notice in options.notices)
    assert told == (allowed_cores() > 1)
    assert ("processor_quota" in describe_machine()) == (allowed_cores() > 1)


def test_the_time_that_a_group_was_held_back_is_read_where_there_is_a_limit(groups):
    stat = "usage_usec 9\nnr_periods 5\nnr_throttled 2\nthrottled_usec 1500000\n"
    groups("0::/a\n", **{"a/cpu.max": "100000 100000", "a/cpu.stat": stat, "cpu.stat": "throttled_usec 7000000\n"})
    assert throttled_s(limited_groups()) == 1.5
    groups("0::/a\n", **{"a/cpu.stat": "throttled_usec soon\n"})
    assert throttled_s(limited_groups()) == 0.0


def test_the_first_version_counts_in_nanoseconds(groups):
    files = {
        "cpu/cpu.cfs_quota_us": "1000",
        "cpu/cpu.cfs_period_us": "1000",
        "cpu/cpu.stat": "throttled_time 2500000000",
    }
    groups("4:cpu:/\n", **files)
    assert throttled_s(limited_groups()) == 2.5


def test_runs_with_another_share_of_the_processors_are_not_alike():
    before, after = main_job(), main_job()
    after.machine["processor_quota"] = 1.0
    with pytest.raises(ResultFileError, match="processor_quota"):
        diff(before, after)
    before.machine["processor_quota"] = 1.0
    assert diff(before, after).exit_status == 0
