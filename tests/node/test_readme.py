"""What the README says to type in a cluster, typed."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

from tests.harness.control_plane import ControlPlane
from tests.harness.packages import need


def test_the_commands_of_the_readme_work_as_they_are(plane: ControlPlane, restricted: None) -> None:  # noqa: ARG001
    need({"curl": "curl"}, "the README's commands")
    (commands,) = re.findall(r"```sh\n(.*?)```", Path("README.md").read_text(), re.DOTALL)
    environment = {**os.environ, "KUBECONFIG": str(plane.admin_kubeconfig), "NO_PROXY": "*"}
    try:
        done = subprocess.run(
            ["bash", "-euc", commands],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        answers = map(json.loads, re.findall(r"^\{.*?^\}", done.stdout, re.DOTALL | re.MULTILINE))
        assert [status.keys() & {"podIP", "nodeInfo"} for status in answers] == [{"podIP"}, {"nodeInfo"}]
        assert re.search(r"^this-node-status\.json +ok ", done.stdout, re.MULTILINE)
    finally:
        plane.kubectl("delete", "-f", "example.yaml", "--wait")
