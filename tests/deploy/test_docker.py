"""The files for Docker, as far as they can be held without an engine."""

import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from hub.settings import Settings, field_paths, variable
from tests.deploy.servers import found, needs
from tests.processes import free_port, serving

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "deploy/docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())
VARIABLES = {variable(path) for path in field_paths(Settings)}


def instructions(name: str) -> list[str]:
    joined = DOCKERFILE.replace("\\\n", " ")
    return [line.split(" ", 1)[1].strip() for line in joined.splitlines() if line.startswith(name)]


def copied() -> list[str]:
    return [source for line in instructions("COPY") for source in line.split()[:-1]]


def test_everything_that_is_copied_is_there_and_let_through():
    let_through = (DOCKER / "Dockerfile.dockerignore").read_text().split("\n")
    assert copied()
    for source in copied():
        assert (ROOT / source).exists()
        assert f"!{source}" in let_through


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_what_is_copied_makes_the_whole_wheel(tmp_path):
    """A wheel from the copied files alone has all the files of one from the checkout."""
    for source in copied():
        target = tmp_path / "source" / source
        target.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-r", str(ROOT / source), str(target)], check=True)
    held = []
    for place, name in ((tmp_path / "source", "copied"), (ROOT, "checkout")):
        build = ["-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / name)]
        subprocess.run([sys.executable, *build, str(place)], check=True, capture_output=True)
        [wheel] = (tmp_path / name).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            held.append({n for n in archive.namelist() if "__pycache__" not in n})
    assert held[0] == held[1]


async def test_its_command_and_its_health_check_work_outside_a_container(tmp_path):
    assert instructions("ENTRYPOINT") + instructions("CMD") == ['["lmarena-hub"]', '["serve"]']
    [check] = [json.loads(line.split("CMD ", 1)[1]) for line in instructions("HEALTHCHECK")]
    port = free_port()

    async def healthy() -> bool:
        words = [word.replace(":8080", f":{port}") for word in check[1:]]
        ran = await asyncio.create_subprocess_exec(
            sys.executable, *words, stderr=asyncio.subprocess.DEVNULL
        )
        return await ran.wait() == 0

    environ = dict(word.split("=", 1) for line in instructions("ENV") for word in shlex.split(line))
    environ |= {"HUB_DATA_DIR": str(tmp_path / "data"), "HUB_PORT": str(port)}
    async with serving(tmp_path, **environ):
        assert await healthy()
    assert not await healthy()


def test_it_runs_as_a_user_of_its_own_with_its_data_in_a_volume():
    assert instructions("USER") == ["hub"]
    assert instructions("VOLUME") == ["/data"]
    assert "HUB_DATA_DIR=/data" in " ".join(instructions("ENV"))
    assert re.search(r"install -d -o hub -g hub -m 0700 /data", DOCKERFILE)
    # After the user is chosen nothing is installed any more.
    assert not re.search(r"^RUN", DOCKERFILE.split("\nUSER hub\n")[1], re.MULTILINE)


def test_every_setting_in_the_files_is_one_of_ours():
    named = set(re.findall(r"\bHUB_[A-Z_]+", DOCKERFILE + (DOCKER / "compose.yaml").read_text()))
    assert named
    assert named <= VARIABLES


def test_the_compose_file_fits_the_dockerfile():
    hub, caddy = COMPOSE["services"]["hub"], COMPOSE["services"]["caddy"]
    assert (DOCKER / hub["build"]["context"]).resolve() == ROOT
    assert (ROOT / hub["build"]["dockerfile"]).is_file()
    assert hub["volumes"] == ["data:/data"]
    assert "ports" not in hub
    assert (DOCKER / caddy["volumes"][0].split(":")[0]).is_file()
    assert caddy["depends_on"] == {"hub": {"condition": "service_healthy"}}
    [subnet] = [config["subnet"] for config in COMPOSE["networks"]["inside"]["ipam"]["config"]]
    assert hub["environment"]["HUB_TRUSTED_PROXIES"] == subnet
    assert set(COMPOSE["volumes"]) == {"data", "certificates"}


@needs("caddy")
def test_caddy_takes_its_file():
    command = [str(found("caddy")), "adapt", "--config", str(DOCKER / "Caddyfile")]
    environ = os.environ | {"DOMAIN": "hub.example.org"}
    adapted = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=30)
    assert adapted.returncode == 0, adapted.stderr
    assert '"hub.example.org"' in adapted.stdout
    assert '"dial":"hub:8080"' in adapted.stdout
