"""What matters most, once more, with the oldest API server that the pinned kubectl supports."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import unavailable
from tests.harness import gobuild
from tests.harness.control_plane import ControlPlane, Programs
from tests.harness.control_plane import control_plane as running_control_plane
from tests.harness.network import Network
from tests.harness.progress import Unavailable
from tests.harness.tools import pins
from tests.integration import test_requests, test_watch

account, web = test_requests.account, test_watch.web
test_get = test_requests.test_every_refresh_after_the_first_is_one_request
test_forbidden = (
    test_requests.test_what_is_forbidden_is_named_as_the_rule_that_is_missing_and_that_rule_is_enough
)
test_not_found = test_requests.test_an_object_that_went_away_is_treated_as_asked
test_watch_one = test_watch.test_a_change_is_in_the_file_without_a_further_request
test_watch_list = test_watch.test_a_list_is_run_again_at_each_change
test_watch_not_found = test_watch.test_on_missing_remove_takes_the_output_away_at_once
test_watch_forbidden = test_watch.test_a_task_that_may_not_watch_is_polled_and_says_what_is_missing


@pytest.fixture(scope="module")
def control_plane(
    pytestconfig: pytest.Config, network: Network, tools: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ControlPlane]:
    """That of this module: in place of the newest API server, and in a network of its own."""
    try:
        with network.outside():
            server = gobuild.program(gobuild.OLDEST)
    except Unavailable as error:
        unavailable(pytestconfig, error)
    programs = Programs(gobuild.program("etcd"), server, tools / "kubectl")
    own = Network()
    try:
        with running_control_plane(tmp_path_factory.mktemp("oldest"), own, programs) as running:
            yield running
    finally:
        own.leave()


def test_it_is_one_minor_older_than_kubectl(control_plane: ControlPlane) -> None:
    """By kubectl's version skew policy; and what is meant is what runs."""
    (minor,) = {int(pin.version.split(".")[1]) for pin in pins().values() if pin.name == "kubectl"}
    assert int(control_plane.request("GET", "/version")["minor"]) == minor - 1
