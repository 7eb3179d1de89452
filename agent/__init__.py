"""The desktop agent: a worker that answers a hub's jobs from an engine on this machine."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("lmarena-bridge")
except PackageNotFoundError:
    __version__ = "0"
