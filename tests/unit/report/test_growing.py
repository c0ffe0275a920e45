"""The page of a run that goes on: there at once, written anew, and replaced by the whole one."""

import pytest

from faceoff.report import write_page
from faceoff.report.growing import EVERY_S, SHARE_OF_TIME, GrowingPage
from tests.unit.results import samples

FEW = samples.CONTENDERS[:2], samples.MODELS[:1]


class Clock:
    """Stands still until it is set; each reading takes `step` seconds."""

    def __init__(self):
        self.now_s, self.step = 0.0, 0.0

    def __call__(self):
        self.now_s += self.step
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def page(tmp_path, clock):
    return GrowingPage(tmp_path / "page.html", "run", False, clock)


def parts(result):
    """What a run knows when it has begun, when its first model agrees, and when that is timed."""
    begun = samples.empty(contenders=result.contenders)
    agreed = begun.model_copy(update={"agreements": result.agreements})
    return begun, agreed, result


def test_it_is_there_when_the_contenders_have_started_and_says_that_the_run_goes_on(tmp_path, page, capsys):
    begun, *_ = parts(samples.main_job(*FEW))
    page.offer(begun, 0, 7)
    text = (tmp_path / "page.html").read_text()
    assert "This run goes on: 0 of 7 parts are done." in text
    assert "Nothing has been compared yet." in text
    assert f'<meta http-equiv="refresh" content="{EVERY_S:g}">' in text
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"faceoff: page, for now: {tmp_path / 'page.html'} (written anew as the run goes on)\n"


def test_what_is_known_is_on_it_and_the_first_ranking_is_not_kept_waiting(tmp_path, page, clock, capsys):
    begun, agreed, timed = parts(samples.main_job(*FEW))
    page.offer(begun, 0, 7)
    page.offer(agreed, 1, 7)
    assert "1 of 7 parts" not in (tmp_path / "page.html").read_text()
    clock.now_s = EVERY_S
    page.offer(agreed, 1, 7)
    assert "1 of 7 parts" in (tmp_path / "page.html").read_text()
    page.offer(timed, 2, 7)
    assert "2 of 7 parts" in (tmp_path / "page.html").read_text()
    assert "Time of one call in steady state" in (tmp_path / "page.html").read_text()
    page.offer(timed, 3, 7)
    assert "3 of 7 parts" not in (tmp_path / "page.html").read_text()
    lines = capsys.readouterr().err.splitlines()
    # Each answer once, and where the page is.
    assert len([line for line in lines if line.startswith("faceoff: so far: Dense inference")]) == 1
    assert len([line for line in lines if "page, for now" in line]) == 1


def test_a_page_that_takes_long_is_written_less_often(tmp_path, page, clock):
    begun, agreed, _ = parts(samples.main_job(*FEW))
    clock.step = 4.0
    page.offer(begun, 0, 7)
    clock.step, clock.now_s = 0.0, 8.0 + 4.0 / SHARE_OF_TIME - 1
    page.offer(agreed, 1, 7)
    assert "0 of 7 parts" in (tmp_path / "page.html").read_text()
    clock.now_s += 2
    page.offer(agreed, 1, 7)
    assert "1 of 7 parts" in (tmp_path / "page.html").read_text()


def test_the_last_part_is_left_to_the_whole_page_which_says_nothing_of_going_on(tmp_path, page):
    result = samples.main_job(*FEW)
    page.offer(result, 7, 7)
    assert not (tmp_path / "page.html").exists()
    write_page([("run", result)], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "goes on" not in text
    assert "http-equiv" not in text


def test_a_page_that_cannot_be_written_ends_no_run_and_quiet_says_nothing(tmp_path, capsys):
    (tmp_path / "page.html").mkdir()
    result = samples.main_job(*FEW)
    GrowingPage(tmp_path / "page.html", "run", True).offer(result, 1, 7)
    assert (tmp_path / "page.html").is_dir()
    assert capsys.readouterr() == ("", "")


def test_a_run_whose_time_was_over_says_so(tmp_path):
    result = samples.main_job(*FEW)
    result.left_out = 4
    write_page([("run", result)], tmp_path / "page.html")
    assert "was over before its end: 4 of its parts were left out" in (tmp_path / "page.html").read_text()
