"""The systemd files: systemd takes them, and what they start is there."""

import configparser
import subprocess
import sys
from pathlib import Path

import click
import pytest

import hub.cli
from tests.deploy.servers import found, needs

UNITS = Path(__file__).parents[2] / "deploy/systemd"
EACH = pytest.mark.parametrize("unit", sorted(UNITS.iterdir()), ids=lambda unit: unit.name)
INSTALLED = "/opt/lmarena-hub/bin/"


def test_there_are_units():
    assert {unit.name for unit in UNITS.iterdir()} >= {
        "lmarena-hub.service",
        "lmarena-hub-backup.service",
        "lmarena-hub-backup.timer",
    }


@needs("systemd-analyze")
def test_systemd_finds_nothing_wrong(tmp_path):
    """With this environment's programs in the place of the installed ones."""
    folder = str(Path(sys.executable).parent) + "/"
    for unit in UNITS.iterdir():
        (tmp_path / unit.name).write_text(unit.read_text().replace(INSTALLED, folder))
    names = [str(tmp_path / unit.name) for unit in UNITS.iterdir()]
    checked = subprocess.run(
        [str(found("systemd-analyze")), "verify", "--man=no", *names],
        capture_output=True,
        text=True,
        timeout=60,
    )
    ours = [line for line in checked.stderr.splitlines() if "lmarena" in line]
    assert (checked.returncode, ours) == (0, [])


@EACH
def test_every_hub_command_in_a_unit_exists(unit):
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(unit)
    if not parser.has_section("Service"):
        return
    words = parser["Service"]["ExecStart"].partition(f"{INSTALLED}lmarena-hub ")[2].split()
    assert words
    assert hub.cli.main.get_command(click.Context(hub.cli.main), words[0]) is not None
