"""What `make demo` runs, as it runs it."""

import os
import signal
import subprocess
import sys

import pytest

from tests.browser.chromium import find_chromium
from tests.demo import QUESTION


def demonstrated(**environ: str) -> str:
    """What the demo prints, once it has ended by itself."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.demo", "--once"],
        capture_output=True,
        text=True,
        timeout=55,
        env=os.environ | environ,
    )
    assert done.returncode == 0, done.stderr
    assert "curl -N http://127.0.0.1:" in done.stdout
    return done.stdout


@pytest.mark.skipif(find_chromium() is None, reason="there is no Chromium; see `make chromium`")
def test_the_demo_shows_an_answer_that_came_through_a_chromium_tab():
    said = demonstrated()
    assert f"You said: {QUESTION}" in said
    assert "It went through a Chromium tab" in said
    assert "Chrome/" in said


def test_without_a_browser_the_demo_says_so_and_echoes():
    said = demonstrated(PATH="", LMARENA_BROWSER="", CHROME_PATH="")
    assert "There is no Chromium, Chrome or Edge here" in said
    assert f"Model:  {QUESTION}" in said


def test_ctrl_c_ends_the_demo_and_all_that_it_started():
    demo = subprocess.Popen(
        [sys.executable, "-m", "tests.demo"],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert demo.stdout is not None
    for line in demo.stdout:
        if "Ctrl-C" in line:
            break
    os.killpg(demo.pid, signal.SIGINT)
    assert demo.wait(timeout=30) == 0
    with pytest.raises(ProcessLookupError):
        os.killpg(demo.pid, 0)
