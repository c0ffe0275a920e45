"""Where what can be computed anew is kept."""

from pathlib import Path

import pytest

from faceoff.frameworks.caches import cache_root, compile_cache_root
from faceoff.frameworks.configuration import read_configuration


def test_a_cache_folder_that_is_not_absolute_is_ignored(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_root() == tmp_path / ".cache" / "faceoff"
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_root() == Path("/somewhere/faceoff")


@pytest.mark.parametrize(("folder", "apart"), [("plain", False), ("hömé", False), ("with space", True)])
def test_code_is_compiled_into_no_path_with_a_space(monkeypatch, tmp_path, folder, apart):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / folder))
    assert (compile_cache_root() != cache_root()) == apart
    assert " " not in str(compile_cache_root())


def test_an_editor_s_byte_order_mark_is_no_setting(tmp_path):
    path = tmp_path / "faceoff.toml"
    path.write_bytes(b"\xef\xbb\xbftimeout_s = 5\n")
    assert read_configuration(path).timeout_s == 5
