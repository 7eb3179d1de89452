"""GET /userscript/hub.user.js and hub.meta.js: the userscript, with this hub's own address in it.

The script is built by `make userscript`; what is filled in here is listed in `userscript/build.js`.
"""

import functools
import json
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web

from .. import __version__
from ..errors import HubError
from ..live.hub import Hub
from ..rules.profile import Profile
from .pages import assets, public_address
from .state import HUB

SCRIPT = assets("userscript", "userscript/dist") / "hub.user.js"
END_OF_METADATA = "// ==/UserScript==\n"


class NoPublicUrl(HubError):
    """This hub does not know the address under which browsers reach it. Set public_url, and try again."""

    status = 503
    type = "service_unavailable_error"
    permanent = True


async def user_script(request: web.Request) -> web.Response:
    """The whole script, for a userscript manager to install and to update from."""
    return _javascript(_script(request))


async def user_script_metadata(request: web.Request) -> web.Response:
    """Its metadata alone: managers look here for a newer version."""
    metadata, end, _ = _script(request).partition(END_OF_METADATA)
    return _javascript(metadata + end)


def _javascript(text: str) -> web.Response:
    return web.Response(
        text=text, content_type="text/javascript", headers={"Cache-Control": "no-cache"}
    )


def _script(request: web.Request) -> str:
    """Raises NoPublicUrl."""
    address = public_address(request)
    if address is None:
        raise NoPublicUrl
    return fill_in(_built(SCRIPT), address, script_version(request.app[HUB]), _profile(request))


def _profile(request: web.Request) -> Profile:
    return request.app[HUB].store.profiles.current


def script_version(hub: Hub) -> str:
    """The hub's version and the profile's: hosts in the metadata follow the profile."""
    return f"{__version__}.{hub.store.profiles.current.version}"


@functools.cache
def _built(path: Path) -> str:
    return path.read_text("utf-8")


def fill_in(script: str, address: str, version: str, profile: Profile) -> str:
    """The script as one hub serves it; `address` has no slash at its end."""
    metadata, end, code = script.partition(END_OF_METADATA)
    lines = []
    for line in metadata.splitlines():
        if "__MATCH__" in line:
            lines += [line.replace("__MATCH__", pattern) for pattern in match_patterns(profile)]
        else:
            line = line.replace("__CONNECT__", urlsplit(address).hostname or "*")
            lines.append(line.replace("__HUB__", address).replace("__VERSION__", version))
    code = code.replace('"__HUB__"', json.dumps(address), 1)
    code = code.replace('"__VERSION__"', json.dumps(version), 1)
    return "\n".join(lines) + "\n" + end + code


def match_patterns(profile: Profile) -> list[str]:
    """The pages that the script runs in. A public site is https; one on this machine may be either."""
    return [f"{'*' if profile.is_local(host) else 'https'}://{host}/*" for host in profile.hosts]
