"""What is printed may go nowhere, to a full disk or a closed pipe: that ends no run and is no verdict."""

import os
import subprocess
import sys

import pytest

from faceoff.results.file import save
from tests.unit.differences.samples import run_of

FULL = "/dev/full"
needs_full = pytest.mark.skipif(not os.path.exists(FULL), reason=f"no {FULL} here")


def shell(text, **options):
    """Runs a command line in bash, `faceoff` being this one; exit status, standard output and standard error."""
    text = f'set -o pipefail; faceoff() {{ {sys.executable} -m faceoff "$@"; }}; {text}'
    return subprocess.run(["bash", "-c", text], capture_output=True, text=True, **options)


@needs_full
@pytest.mark.parametrize("command", ["list", "list --json", "diff a.json a.json", "report a.json --format md"])
def test_an_output_that_cannot_be_written_is_one_line_and_no_regression(command, tmp_path):
    save(run_of(1), tmp_path / "a.json")
    run = shell(f"faceoff {command} > {FULL}", cwd=tmp_path)
    assert run.returncode == 3
    assert run.stderr == "faceoff: standard output cannot be written: No space left on device\n"


@pytest.mark.parametrize("command", ["list", "list --json", "--help"])
def test_a_reader_who_has_seen_enough_is_no_error(command):
    run = shell(f"faceoff {command} | true")
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_were_closed_are_done_without(closed):
    assert shell(f"faceoff list {closed}").returncode == 0


@needs_full
def test_bad_input_keeps_its_status_where_nobody_can_be_told():
    assert shell(f"faceoff bench --models none 2> {FULL}").returncode == 2
