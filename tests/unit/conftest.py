"""Fixtures that several unit tests share."""

import pytest

from faceoff.commands.cli import main
from faceoff.results.file import save


@pytest.fixture
def run_diff(tmp_path, capsys):
    """Runs `faceoff diff` on two results; exit status, standard output and standard error."""

    def command(before, after, *options):
        paths = []
        for name, result in (("a.json", before), ("b.json", after)):
            paths.append(str(tmp_path / name))
            save(result, tmp_path / name)
        with pytest.raises(SystemExit) as ended:
            main(["diff", *paths, *options])
        captured = capsys.readouterr()
        return ended.value.code or 0, captured.out, captured.err

    return command
