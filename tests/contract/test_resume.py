"""A run that is killed as hard as can be goes on where it was, and its result is what one run would have given."""

import signal

from faceoff import load
from faceoff.run.journal import NAME, read
from tests.contract.test_runs import finish, running, wait_for


def test_a_run_that_was_killed_with_sigkill_is_resumed_to_a_complete_result(tmp_path, lightest):
    out = tmp_path / "out"
    arguments = ["bench", "--preset", "small", "--models", "dense", "--contenders", str(lightest), "--budget", "quick"]
    with running(out, *arguments) as run:
        wait_for(lambda: (out / NAME).exists() and b"agreement dense" in (out / NAME).read_bytes(), "agreement")
        run.send_signal(signal.SIGKILL)
        finish(run, 30)
    assert not (out / "result.json").exists()
    before = read(out / NAME)
    assert any(key.startswith("agreement") for key in before.units)
    with running(out, "bench", "--resume", str(out)) as run:
        status, output = finish(run)
    assert status == 0, (tmp_path / "stderr.txt").read_text()
    assert "resumed once" in output
    result = load(out / "result.json")
    assert result.resumed == 1
    assert not result.interrupted
    # What was finished was taken over, not done again; and nothing is there twice.
    taken = next(unit for key, unit in before.units.items() if key.startswith("agreement"))
    assert result.agreements == taken.agreements
    assert result.created == before.begin.created
    assert len({case.name for case in result.cases}) == len(result.cases) == 2
    assert all(case.outcome == "ok" and case.speed for case in result.cases)
    assert (out / "page.html").exists()
    assert read(out / NAME).ended
    interrupted_while_the_page_is_made(out)


def interrupted_while_the_page_is_made(out):
    """The run is told to go on once more; a signal comes when its result is there, and its page is not."""
    journal = out / NAME
    # As if it had been killed before it noted its end.
    journal.write_bytes(b"".join(line for line in journal.read_bytes().splitlines(True) if b'"ended"' not in line))
    (out / "result.json").unlink()
    (out / "page.html").unlink()
    with running(out, "bench", "--resume", str(out)) as run:
        wait_for((out / "result.json").exists, "a result")
        run.send_signal(signal.SIGINT)
        status, output = finish(run, 30)
    assert status == 130
    assert f"resume: faceoff bench --resume {out}" in output + (out.parent / "stderr.txt").read_text()
    assert not list(out.glob(".*"))
    with running(out, "bench", "--resume", str(out)) as run:
        assert finish(run)[0] == 0
    assert (out / "page.html").exists()
