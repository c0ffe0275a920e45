"""Noise that was found once is taken again only for the very same task, and a damaged file costs nothing."""

import dataclasses
import threading

import pytest

from faceoff.agreement import noise
from faceoff.agreement.check import Expected
from faceoff.agreement.noise import remembered, task_key
from faceoff.core.spec import DenseSpec, Workload
from faceoff.workloads.task import Task


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "faceoff" / "noise"


def fail():
    raise AssertionError("computed again")


def test_noise_is_computed_once(folder):
    first = remembered("key", lambda: {"outputs": 0.1})
    assert first == {"outputs": 0.1} == remembered("key", fail)
    assert [path.name for path in folder.iterdir()] == ["key.json"]


def test_a_cut_off_file_is_made_anew(folder):
    remembered("key", lambda: {"outputs": 0.1})
    (folder / "key.json").write_text('{"outputs": 0.')
    assert remembered("key", lambda: {"outputs": 0.2}) == {"outputs": 0.2} == remembered("key", fail)


def test_noise_without_a_place_to_keep_it_is_computed_each_time(folder):
    folder.parent.mkdir()
    folder.write_text("a file where the folder should be")
    assert remembered("key", lambda: {"outputs": 0.1}) == {"outputs": 0.1}
    with pytest.raises(AssertionError, match="computed again"):
        remembered("key", fail)


def test_another_task_has_another_key():
    task = Task.seeded(Workload(DenseSpec((3, 4, 2)), 5), 0)
    keys = {task_key("agreement", ["float32", 0], task.weights, task.batches)}
    keys.add(task_key("training", ["float32", 0], task.weights, task.batches))
    keys.add(task_key("agreement", ["float32", 1], task.weights, task.batches))
    keys.add(task_key("agreement", ["float32", 0], task.weights, task.batches[:2]))
    other = {**task.weights, "layer.0.bias": task.weights["layer.0.bias"] + 1e-12}
    keys.add(task_key("agreement", ["float32", 0], other, task.batches))
    changed = dataclasses.replace(task.batches[0], targets=1 - task.batches[0].targets % 2)
    keys.add(task_key("agreement", ["float32", 0], task.weights, [changed, *task.batches[1:]]))
    assert len(keys) == 6


def test_what_was_kept_is_what_would_be_computed(folder):
    task = Task.seeded(Workload(DenseSpec((3, 4, 2)), 5), 0)
    computed, again, other = ({} for _ in range(3))
    for found, seed in ((computed, 0), (again, 0), (other, 1)):
        found.update({name: noise.to_json() for name, noise in Expected(task, seed).noise("float32").items()})
        assert len(list(folder.iterdir())) == 1 + seed
    assert again == computed
    assert other != computed


@pytest.mark.parametrize("at_once", [1, 3])
def test_every_stochastic_run_is_made_once_and_keeps_its_number(at_once):
    made = []

    def run(number):
        made.append(number)
        return {"x": float(number)}

    assert noise.run_all(run, lambda: at_once, 0.0) == [{"x": float(number)} for number in range(noise.NOISE_RUNS)]
    assert sorted(made) == list(range(noise.NOISE_RUNS))


def test_long_runs_go_side_by_side_and_short_ones_do_not():
    def threads_used(long_s):
        used = set()

        def run(number):
            used.add(threading.get_ident())
            return {}

        noise.run_all(run, lambda: 4, long_s)
        return used

    assert threads_used(long_s=60.0) == {threading.get_ident()}
    assert len(threads_used(long_s=0.0)) > 1
