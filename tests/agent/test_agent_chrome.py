"""Finding a browser, on the three systems without being on them."""

from collections.abc import Callable

import pytest

from agent.chrome import Browser, find_browser, named_browser

HOME = {"HOME": "/home/me"}
MAC_HOME = {"HOME": "/Users/me"}
WINDOWS = {
    "PROGRAMFILES": r"C:\Program Files",
    "PROGRAMFILES(X86)": r"C:\Program Files (x86)",
    "LOCALAPPDATA": r"C:\Users\me\AppData\Local",
}


def found(platform: str, environ: dict[str, str], *files: str) -> Browser | None:
    """What is found where these files are all there is; those in a `bin` are on the PATH."""

    def which(name: str) -> str | None:
        ends = ("/bin/" + name, "\\bin\\" + name + ".exe")
        return next((file for file in files if file.endswith(ends)), None)

    return find_browser(platform, environ, which, lambda file: file in files)


def path(browser: Browser | None) -> str | None:
    return browser and browser.path


@pytest.mark.parametrize(
    ("platform", "environ", "file"),
    [
        ("linux", HOME, "/usr/bin/google-chrome-stable"),
        ("linux", HOME, "/usr/bin/google-chrome"),
        ("linux", HOME, "/usr/bin/chromium"),
        ("linux", HOME, "/usr/bin/chromium-browser"),
        ("linux", HOME, "/usr/bin/microsoft-edge"),
        ("linux", HOME, "/opt/google/chrome/chrome"),
        ("linux", HOME, "/snap/bin/chromium"),
        ("linux", HOME, "/var/lib/flatpak/exports/bin/org.chromium.Chromium"),
        ("linux", HOME, "/home/me/.local/share/flatpak/exports/bin/com.google.Chrome"),
        ("darwin", MAC_HOME, "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"),
        ("darwin", MAC_HOME, "/Users/me/Applications/Chromium.app/Contents/MacOS/Chromium"),
        ("darwin", MAC_HOME, "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge"),
        ("darwin", MAC_HOME, "/opt/homebrew/bin/chromium"),
        ("win32", WINDOWS, r"C:\Program Files\Google\Chrome\Application\chrome.exe"),
        ("win32", WINDOWS, r"C:\Users\me\AppData\Local\Chromium\Application\chrome.exe"),
        ("win32", WINDOWS, r"C:\Program Files (x86)\Microsoft\Edge\Application\msedge.exe"),
        ("win32", WINDOWS, r"D:\tools\bin\chrome.exe"),
    ],
)
def test_each_place_is_looked_at(platform, environ, file):
    assert path(found(platform, environ, file)) == file


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_where_there_is_none_none_is_found(platform):
    assert found(platform, {}) is None
    assert found(platform, HOME | WINDOWS) is None


@pytest.mark.parametrize(
    ("platform", "environ", "better", "other"),
    [
        ("linux", HOME, "/usr/bin/google-chrome", "/usr/bin/chromium"),
        ("linux", HOME, "/usr/bin/chromium", "/usr/bin/microsoft-edge"),
        # On Ubuntu that one is a script which only starts the snap.
        ("linux", HOME, "/snap/bin/chromium", "/usr/bin/chromium-browser"),
        (
            "win32",
            WINDOWS,
            r"C:\Users\me\AppData\Local\Google\Chrome\Application\chrome.exe",
            r"C:\Program Files (x86)\Microsoft\Edge\Application\msedge.exe",
        ),
    ],
)
def test_chrome_comes_before_chromium_and_edge(platform, environ, better, other):
    assert path(found(platform, environ, other, better)) == better


def test_the_environment_comes_first_and_is_taken_at_its_word():
    environ = HOME | {"CHROME_PATH": "/opt/mine/chrome", "LMARENA_BROWSER": ""}
    assert path(found("linux", environ, "/usr/bin/google-chrome")) == "/opt/mine/chrome"
    environ["LMARENA_BROWSER"] = "google-chrome"
    assert path(found("linux", environ, "/usr/bin/google-chrome")) == "/usr/bin/google-chrome"


@pytest.mark.parametrize(
    ("file", "profiles"),
    [
        ("/usr/bin/chromium", None),
        ("/snap/bin/chromium", "/home/me/snap/chromium/common/lmarena-agent"),
        (
            "/var/lib/flatpak/exports/bin/com.google.Chrome",
            "/home/me/.var/app/com.google.Chrome/data/lmarena-agent",
        ),
    ],
)
def test_confined_browsers_keep_their_profile_where_they_may_write(file, profiles):
    browser = found("linux", HOME, file)
    assert browser == Browser(file, profiles)
    nothing: Callable[[str], str | None] = lambda name: None  # noqa: E731
    assert named_browser(file, HOME, nothing) == browser
