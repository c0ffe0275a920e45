"""What a result says of the place where it was made."""

from pathlib import Path

import pytest

from faceoff.run.starting import without_home


def test_the_users_folder_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: Path("/home/ada"))
    settings = {
        "threads": 2,
        "environment": {"CACHE": "/home/ada/.cache/x", "OTHER": "/home/adam/x", "HERE": "/home/ada"},
    }
    assert without_home(settings) == {
        "threads": 2,
        "environment": {"CACHE": "~/.cache/x", "OTHER": "/home/adam/x", "HERE": "/home/ada"},
    }
