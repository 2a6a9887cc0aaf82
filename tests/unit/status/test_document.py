"""The status document is found where it may be, and only one of ours is read."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from kubectl_sidecar.status.document import Document, Unreadable, candidates, find, process_start, rfc3339

NOW = 1_800_000_000.0
NOBODY = 54321


@pytest.mark.parametrize("text", ["", "[]", "{", '{"version": 1}', '{"version": 1, "time": 5}'])
def test_a_file_that_is_none_says_so(text: str) -> None:
    with pytest.raises(Unreadable) as none:
        Document("/status.json", text)
    assert str(none.value) == "/status.json is no status document"


def test_a_document_of_another_version_is_not_read() -> None:
    with pytest.raises(Unreadable) as newer:
        Document("/status.json", json.dumps({"version": 2, "time": rfc3339(NOW)}))
    assert str(newer.value) == "/status.json: expected a status document of version 1, but version 2 came"


def test_an_age_follows_the_seconds_since_boot() -> None:
    text = json.dumps({"version": 1, "time": rfc3339(NOW), "sinceBoot": 100.5})
    document = Document("/status.json", text)
    document.read_at = 103.5
    assert document.age(rfc3339(NOW - 7)) == 10.0


def test_no_document_at_all_names_the_places_best_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)  # for whom nothing runs here
    environ = {"TMPDIR": str(tmp_path), "KUBECTL_SIDECAR_STATUS_FILE": f"{tmp_path}/public"}
    private = [f"{directory}/status.json" for directory in candidates(environ)]
    for given, places in ((None, [*private, f"{tmp_path}/public"]), (f"{tmp_path}/a", [f"{tmp_path}/a"])):
        with pytest.raises(Unreadable) as error:
            find(given, environ)
        assert str(error.value) == (
            f"there is no status document: looked for {', '.join(places)};"
            " is `kubectl-sidecar run` running in this container, as this user?"
        )


def test_the_private_document_comes_before_the_environments(tmp_path: Path) -> None:
    environ = {"TMPDIR": str(tmp_path), "KUBECTL_SIDECAR_STATUS_FILE": f"{tmp_path}/public"}
    private = Path(candidates(environ)[0], "status.json")
    private.parent.mkdir()
    for path in (private, tmp_path / "public"):
        path.write_text(json.dumps({"version": 1, "time": rfc3339(NOW)}))
    assert find(None, environ).path == str(private)
    assert find(f"{tmp_path}/public", environ).path == f"{tmp_path}/public"


def test_a_directory_of_somebody_else_is_not_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {"TMPDIR": str(tmp_path)}
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    theirs = Path(candidates(environ)[0])
    theirs.mkdir()
    (theirs / "status.json").write_text(json.dumps({"version": 1, "time": rfc3339(NOW)}))
    with pytest.raises(Unreadable) as error:
        find(None, environ)
    assert str(tmp_path) not in str(error.value)


def test_an_unreadable_document_says_why(tmp_path: Path) -> None:
    with pytest.raises(Unreadable) as error:
        find(str(tmp_path), {})
    assert str(error.value) == f"{tmp_path} cannot be read: Is a directory"


def test_a_zombie_has_ended() -> None:
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert process_start(child) is None
    os.waitpid(child, 0)


def test_without_a_temporary_directory_there_is_still_shared_memory() -> None:
    assert candidates({"TMPDIR": "/given"})[0].startswith("/given/kubectl-sidecar-")
    assert [path.rpartition("/")[0] for path in candidates({})] == ["/tmp", "/dev/shm"]
