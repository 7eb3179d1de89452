"""A private Apache with Passenger, as shared hosts have it, and the hub in it as a user would upload it."""

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tests.deploy.servers import process_behind, processes_with, short_folder, started
from tests.processes import Program, chat, eventually, free_port, program, secret

ROOT = Path(__file__).parents[2]
MODULES = ("mpm_event", "authz_core", "dir", "mime", "env", "passenger")
AS_ROOT = """
User nobody
Group nogroup
PassengerDefaultUser root
"""
CONFIGURATION = """
ServerRoot {folder}
ServerName localhost
Listen 127.0.0.1:{port}
PidFile {folder}/pid
ErrorLog {folder}/error.log
TypesConfig /etc/mime.types
{modules}
{users}
PassengerRoot /usr/lib/ruby/vendor_ruby/phusion_passenger/locations.ini
PassengerInstanceRegistryDir {folder}/registry
PassengerLogFile {folder}/passenger.log
PassengerMaxPoolSize {pool}
PassengerMinInstances {pool}
PassengerDisableSecurityUpdateCheck on
PassengerDisableAnonymousTelemetry on
<VirtualHost *:{port}>
  DocumentRoot {folder}/app/public
  PassengerAppRoot {folder}/app
  PassengerAppType wsgi
  PassengerStartupFile passenger_wsgi.py
  PassengerPython {python}
  <Directory {folder}/app>
    Require all granted
  </Directory>
</VirtualHost>
"""


@dataclass
class Hosted:
    """A hub behind Passenger, by its public address."""

    folder: Path
    url: str
    key: str = ""

    @property
    def app(self) -> Path:
        return self.folder / "app"

    @property
    def data(self) -> Path:
        return self.app / "data"

    @property
    def socket(self) -> Path:
        return self.data / "hub.sock"

    @property
    def hub(self) -> int | None:
        """The hub's process."""
        return process_behind(self.socket)

    @property
    def doors(self) -> set[int]:
        """Passenger's processes of this application, by their working directory."""
        loaders = processes_with("wsgi-loader.py")
        return {pid for pid in loaders if Path(f"/proc/{pid}/cwd").resolve() == self.app}

    @property
    def log(self) -> str:
        file = self.data / "hub.log"
        return file.read_text() if file.exists() else ""

    def lines(self, *words: str) -> list[str]:
        """The lines of its log that hold these words."""
        return [line for line in self.log.splitlines() if all(word in line for word in words)]

    def kill(self) -> int:
        """kill -9; the process that is no more."""
        hub = self.hub
        assert hub is not None
        os.kill(hub, signal.SIGKILL)
        return hub

    async def settled(self) -> list[dict[str, Any]]:
        """The journal once no request is open: the last word of one is written just after its answer left."""
        async with asyncio.timeout(30):
            while any(row["settled_at"] is None for row in await self.rows()):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        return await self.rows()

    async def rows(self) -> list[dict[str, Any]]:
        """The journal, as `sqlite3` reads it beside the hub."""
        command = ("sqlite3", "-json", "-readonly", str(self.data / "hub.db"))
        query = "SELECT * FROM requests ORDER BY id"
        reading = await asyncio.create_subprocess_exec(
            *command, query, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await reading.communicate()
        return json.loads(out or b"[]")

    def post(self, http: aiohttp.ClientSession, model: str = "echo", **members: Any) -> Any:
        """A chat completion, as aiohttp's context manager."""
        headers = {"Authorization": f"Bearer {self.key}"}
        body = chat(model, **members)
        return http.post(f"{self.url}/v1/chat/completions", json=body, headers=headers)


@asynccontextmanager
async def hosting(toml: str = "", pool: int = 3) -> AsyncIterator[Hosted]:
    """Apache with Passenger on a free port, and the application in a folder of its own; no hub runs yet."""
    with short_folder() as folder:
        app = folder / "app"
        for part in ("registry", "app/tmp", "app/public"):
            (folder / part).mkdir(parents=True)
        shutil.copy(ROOT / "deploy/cpanel/passenger_wsgi.py", app)
        (app / "hub.toml").write_text(toml)
        hosted = Hosted(folder, f"http://127.0.0.1:{free_port()}")
        hosted.key = await secret(app, "key")
        try:
            async with apache(hosted, pool):
                yield hosted
        finally:
            # Only now: as long as Apache is there, any caller would start another.
            for hub in processes_with(str(hosted.socket)):
                os.kill(hub, signal.SIGKILL)
            await eventually(lambda: not processes_with(str(hosted.socket)))


@asynccontextmanager
async def apache(hosted: Hosted, pool: int) -> AsyncIterator[None]:
    port = int(hosted.url.rpartition(":")[2])
    modules = [
        f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so" for name in MODULES
    ]
    configuration = CONFIGURATION.format(
        folder=hosted.folder,
        port=port,
        pool=pool,
        modules="\n".join(modules),
        users=AS_ROOT if os.geteuid() == 0 else "PassengerUserSwitching off",
        python=sys.executable,
    )
    file = hosted.folder / "apache.conf"
    file.write_text(configuration)
    environ = {"PASSENGER_INSTANCE_REGISTRY_DIR": str(hosted.folder / "registry")}
    command = ("apache2", "-f", str(file), "-D", "FOREGROUND")
    pid_file = hosted.folder / "pid"
    async with started(*command, port=port, pid_file=pid_file, **environ):
        yield


@asynccontextmanager
async def polling_agent(hosted: Hosted, *options: str) -> AsyncIterator[Program]:
    """A real `lmarena-agent` that was told nothing of polling; the hub has it when the block begins."""
    environ = {
        "LMARENA_TOKEN": await secret(hosted.app, "worker-token"),
        "LMARENA_STATE_DIR": str(hosted.folder / "agent"),
    }
    address = ("agent", "--hub", hosted.url, "--engine", "echo", "--name", "a real agent")
    async with program(hosted.app, *address, *options, **environ) as agent:
        await eventually(lambda: hosted.lines("worker joined", "a real agent"))
        yield agent
