"""The workflow and the container files fit the package."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.support.paths import ROOT
from tfdetect.cli.main import GROUP
from tfdetect.plugins import plugins


def test_the_workflow_tests_the_oldest_and_the_newest_python():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text())
    bounds = re.search(
        r'requires-python = ">=3\.(\d+),<3\.(\d+)"', (ROOT / "pyproject.toml").read_text()
    )
    expected = [f"3.{bounds[1]}", f"3.{int(bounds[2]) - 1}"]
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == expected
    steps = workflow["jobs"]["test"]["steps"]
    assert any(step.get("run", "").split()[0::2] == ["make", "test"] for step in steps)


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.gpu"])
def test_containers_call_commands_that_there_are(name):
    text = (ROOT / name).read_text().replace("\\\n", " ")
    found = re.findall(r"(?:&& tfdetect|--volume \S+ \S+) ([\w-]+)", text)
    assert len(found) >= 1
    assert set(found) <= set(plugins(GROUP))
    assert "pip install --no-cache-dir /source" in text
