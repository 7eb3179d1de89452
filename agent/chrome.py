"""Finding a browser: Chrome, Edge or Chromium, where Linux, macOS and Windows keep them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath

VARIABLES = ("LMARENA_BROWSER", "CHROME_PATH")
"""Environment variables that name a browser, the first one first."""

_LINUX = (
    "google-chrome-stable",
    "google-chrome",
    "chromium",
    # Before chromium-browser, which on Ubuntu is a script that starts the snap.
    "/snap/bin/chromium",
    "chromium-browser",
    "microsoft-edge-stable",
    "microsoft-edge",
    "/opt/google/chrome/chrome",
    "/opt/microsoft/msedge/msedge",
)
_FLATPAKS = ("com.google.Chrome", "org.chromium.Chromium", "com.microsoft.Edge")
_FLATPAK_EXPORTS = ("/var/lib/flatpak/exports/bin", "~/.local/share/flatpak/exports/bin")
_MAC = ("Google Chrome", "Chromium", "Microsoft Edge")
_WINDOWS = (
    r"Google\Chrome\Application\chrome.exe",
    r"Chromium\Application\chrome.exe",
    r"Microsoft\Edge\Application\msedge.exe",
)
_WINDOWS_ROOTS = ("PROGRAMFILES", "PROGRAMFILES(X86)", "LOCALAPPDATA")
_OWN_FOLDER = "lmarena-agent"


@dataclass(frozen=True, slots=True)
class Browser:
    """A browser's program."""

    path: str
    profiles: str | None = None
    """The one folder where it may keep a profile, for a snap or a flatpak; None if it may anywhere."""


Which = Callable[[str], str | None]
"""As `shutil.which`: the path of a command, or None."""
IsFile = Callable[[str], bool]


def find_browser(
    platform: str, environ: Mapping[str, str], which: Which, is_file: IsFile
) -> Browser | None:
    """The browser to use on `platform` (as in `sys.platform`), or None.

    One that the environment names is taken at its word; whether it is there shows when it is started.
    """
    for variable in VARIABLES:
        if environ.get(variable):
            return named_browser(environ[variable], environ, which)
    for candidate in _candidates(platform, environ):
        path = which(candidate) if _is_command(candidate) else candidate
        if path is not None and is_file(path):
            return Browser(path, _profiles(path, environ))
    return None


def named_browser(name: str, environ: Mapping[str, str], which: Which) -> Browser:
    """The browser that somebody named, by a path or by a command's name."""
    path = which(name) or name
    return Browser(path, _profiles(path, environ))


def _is_command(candidate: str) -> bool:
    return "/" not in candidate and "\\" not in candidate


def _candidates(platform: str, environ: Mapping[str, str]) -> Iterator[str]:
    if platform == "win32":
        roots = [environ[root] for root in _WINDOWS_ROOTS if environ.get(root)]
        yield from (str(PureWindowsPath(root, place)) for place in _WINDOWS for root in roots)
        yield from ("chrome", "msedge")
    elif platform == "darwin":
        roots = ["/Applications", f"{_home(environ)}/Applications"]
        for name in _MAC:
            yield from (f"{root}/{name}.app/Contents/MacOS/{name}" for root in roots)
        yield from ("google-chrome", "chromium")
    else:
        yield from _LINUX
        for app in _FLATPAKS:
            yield from (f"{root.replace('~', _home(environ))}/{app}" for root in _FLATPAK_EXPORTS)


def _profiles(path: str, environ: Mapping[str, str]) -> str | None:
    """A snap may not write to hidden folders of its user's home, a flatpak only to its own."""
    home = _home(environ)
    if path.startswith("/snap/"):
        return f"{home}/snap/{PurePosixPath(path).name}/common/{_OWN_FOLDER}"
    if "/flatpak/exports/bin/" in path:
        return f"{home}/.var/app/{PurePosixPath(path).name}/data/{_OWN_FOLDER}"
    return None


def _home(environ: Mapping[str, str]) -> str:
    return environ.get("HOME", "").rstrip("/")
