"""The wheel holds all that an installed hub needs, and an installed hub works."""

import os
import re
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NEEDED = [
    "hub/py.typed",
    "hub/templates/front.html",
    "hub/static/hub.css",
    "hub/rules/o200k_base.tiktoken.gz",
    "hub/rules/site_profile.json",
    "hub/userscript/hub.user.js",
    "agent/engines/echo.py",
    "agent/tab.js",
    *(f"hub/store/migrations/{file.name}" for file in (ROOT / "hub/store/migrations").iterdir()),
]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def environment(**more: str) -> dict[str, str]:
    ours = ("HUB_", "LMARENA_", "PYTHONPATH", "VIRTUAL_ENV")
    return {k: v for k, v in os.environ.items() if not k.startswith(ours)} | more


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("dist")
    build = ["-m", "build", "--wheel", "--no-isolation", "--outdir", str(target), str(ROOT)]
    subprocess.run([sys.executable, *build], check=True, capture_output=True, timeout=120)
    [built] = target.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an environment that has the wheel and nothing else."""
    place = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", str(place)], check=True, timeout=120)
    pip = [str(place / "bin" / "pip"), "install", "--quiet", str(wheel)]
    subprocess.run(pip, check=True, env=environment(), timeout=240)
    return place / "bin"


@pytest.mark.parametrize("name", NEEDED)
def test_the_wheel_holds(wheel, name):
    with zipfile.ZipFile(wheel) as archive:
        assert archive.getinfo(name).file_size == len(source_of(name).read_bytes())


def source_of(name: str) -> Path:
    if name.endswith(".js"):
        return ROOT / "userscript" / "dist" / Path(name).name
    beside = ROOT / name.removeprefix("hub/")
    return beside if beside.is_file() else ROOT / name


def test_the_wheel_holds_nothing_else_at_its_top(wheel):
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"hub", "agent"}


def test_an_installed_hub_serves(installed, tmp_path):
    """The working directory is empty, so nothing of the checkout can help."""
    environ = environment(HUB_PORT="0", HUB_LOG_FORMAT="json", TMPDIR=str(tmp_path))
    hub = subprocess.Popen(
        [installed / "lmarena-hub", "serve"],
        cwd=tmp_path,
        env=environ,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert hub.stderr is not None
        ready = next(line for line in hub.stderr if "hub is ready" in line)
        found = re.search(r"http://[0-9.:]+", ready)
        assert found is not None
        with urllib.request.urlopen(f"{found[0]}/healthz", timeout=10) as answer:
            assert b'"ok"' in answer.read()
        with urllib.request.urlopen(found[0], timeout=10) as answer:
            assert b"lmarena-hub key create" in answer.read()
        with urllib.request.urlopen(f"{found[0]}/static/hub.css", timeout=10) as answer:
            assert answer.read() == (ROOT / "static/hub.css").read_bytes()
        hub.terminate()
        assert hub.wait(timeout=30) == 0
    finally:
        hub.kill()
        hub.communicate()


def test_the_zip_for_cpanel_serves_once_unpacked(wheel, installed, tmp_path):
    """As Passenger does it, in an environment that has the wheel and nothing else."""
    pack = [sys.executable, str(ROOT / "deploy/cpanel/pack.py"), str(wheel)]
    made = subprocess.run(pack, check=True, capture_output=True, text=True, timeout=60)
    with zipfile.ZipFile(made.stdout.strip()) as archive:
        archive.extractall(tmp_path)
    [named] = (tmp_path / "requirements.txt").read_text().split()
    assert (tmp_path / named).read_bytes() == wheel.read_bytes()
    assert (tmp_path / "README.md").is_file()
    install = ["install", "--no-deps", "--no-index", "--force-reinstall", "-r", "requirements.txt"]
    subprocess.run(
        [installed / "pip", *install], cwd=tmp_path, check=True, capture_output=True, timeout=120
    )
    (tmp_path / "hub.toml").write_text("[hosting]\nidle_end_s = 2\n")
    caller = (
        "import io, passenger_wsgi\n"
        "environ = {'REQUEST_METHOD': 'GET', 'PATH_INFO': '/healthz', 'HTTP_HOST': 'localhost'}\n"
        "environ['wsgi.input'] = io.BytesIO()\n"
        "answer = passenger_wsgi.application(environ, lambda status, headers: print(status))\n"
        "print(b''.join(answer).decode())\n"
    )
    called = subprocess.run(
        [installed / "python", "-c", caller],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    log = (tmp_path / "data/hub.log").read_text()
    assert called.stdout.startswith("200 OK"), called.stderr + log
    assert '"ok"' in called.stdout


@pytest.mark.parametrize("name", ["lmarena-hub", "lmarena-agent"])
def test_the_programs_are_there(installed, tmp_path, name):
    shown = subprocess.run(
        [installed / name, "--help"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert shown.stdout.startswith(f"Usage: {name}")
