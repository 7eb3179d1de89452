"""The plan of the house: a file imports only files above it."""

import ast
from pathlib import Path

import pytest

HUB = Path(__file__).parents[2] / "hub"
AGENT = HUB.parent / "agent"

ORDER = """
    __init__
    errors protocol settings
    rules.catalogue rules.tools rules.deltas rules.openai rules.tokens rules.images rules.cutting
    rules.rotation rules.breaker rules.health rules.scaling rules.attempt rules.folding rules.profile
    rules.money rules.durations rules.turns rules.window rules.budget rules.tiers rules.passwords
    rules.price_list rules.addresses rules.spreadsheet rules.routing
    store.database store.audit store.credentials store.users store.sessions
    store.invitations store.keys store.worker_tokens
    store.tiers store.aliases store.ledger store.journal store.vault store.backup store.sealed store.repeats
    store.content store.workers store.profiles store.__init__
    live.feed live.log live.alarms live.timer live.throttle live.sign_in
    live.gate live.jobs live.line live.rota live.workers live.routing live.dispatch live.outbound
    live.repeats live.upkeep live.metrics live.recent live.scaling live.hub
    web.state web.addresses web.cors web.session web.middleware web.presence web.pictures web.repeats
    web.completions web.stored web.models web.ollama web.usage web.organization
    web.worker_socket web.worker_poll
    web.operations.operation web.operations.users web.operations.invitations web.operations.keys web.operations.worker_tokens
    web.operations.tiers web.operations.routing web.operations.site_profile web.operations.keeping web.operations.logs web.operations.database web.operations.workers
    web.operations.__init__
    web.openapi web.admin web.health web.pages web.sign_in web.userscript web.routes
    app control passenger doctor options tables cli __main__
""".split()  # noqa: SIM905 - the plan reads better as lines
"""Every file of the hub, from the ground to the roof."""

ROOMS_WITHOUT_A_ROOF = ["rules.__init__", "live.__init__", "web.__init__"]
VAGUE = {"utils", "util", "helpers", "common", "manager", "base", "core", "misc"}


def name_of(file: Path, root: Path = HUB) -> str:
    return ".".join(file.relative_to(root).with_suffix("").parts)


def modules(root: Path = HUB) -> dict[str, str]:
    """The source of every module below a folder, by its dotted name."""
    return {name_of(file, root): file.read_text() for file in sorted(root.rglob("*.py"))}


def imports(source: str, module: str, package: str = "hub") -> set[str]:
    """The dotted names that a module imports, wherever in it; `from a import b` is `a.b`."""
    here = [package, *module.split(".")]
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = here[: -node.level] if node.level else []
            origin = ".".join([*above, *filter(None, [node.module])])
            names |= {f"{origin}.{alias.name}" for alias in node.names}
    return names


def ours(imported: str) -> str | None:
    """Which of the hub's modules an imported name comes from; None for others' modules."""
    path = imported.split(".")
    if path[0] != "hub":
        return None
    for length in range(len(path), 0, -1):
        candidate = ".".join(path[1:length])
        if candidate in ORDER:
            return candidate
        roof = f"{candidate}.__init__".removeprefix(".")
        if roof in ORDER or roof in ROOMS_WITHOUT_A_ROOF:
            return roof
    return None


def upward_imports(module: str, source: str) -> list[str]:
    """What a module imports although it does not stand above it in the house."""
    above = ORDER[: ORDER.index(module)] + ROOMS_WITHOUT_A_ROOF
    used = {ours(imported) for imported in imports(source, module)} - {None}
    return sorted(str(found) for found in used if found not in above)


def test_every_file_has_its_place():
    assert sorted(modules()) == sorted(ORDER + ROOMS_WITHOUT_A_ROOF)


@pytest.mark.parametrize("module", ORDER)
def test_a_file_imports_only_files_above_it(module):
    assert upward_imports(module, modules()[module]) == []


@pytest.mark.parametrize(
    ("module", "source", "found"),
    [
        ("store.database", "from ..live.hub import Hub", ["live.hub"]),
        ("store.database", "from ..live import hub", ["live.hub"]),
        ("store.database", "import hub.web.routes", ["web.routes"]),
        ("store.database", "from . import journal", ["store.journal"]),
        ("store.database", "from hub import app", ["app"]),
        ("rules.openai", "from ..store import Store", ["store.__init__"]),
        ("rules.openai", "def late():\n    from ..live import log", ["live.log"]),
        ("errors", "from .errors import HubError", ["errors"]),
        ("web.pages", "from .. import __version__", []),
        ("live.hub", "from ..store import Store", []),
        ("live.hub", "import asyncio", []),
    ],
)
def test_the_checker_notices_an_upward_import(module, source, found):
    assert upward_imports(module, source) == found


def test_rooms_without_a_roof_are_empty():
    assert all(not modules()[room].strip() for room in ROOMS_WITHOUT_A_ROOF)


def test_errors_and_protocol_import_nothing_of_ours():
    for module in ("errors", "protocol"):
        assert not [i for i in imports(modules()[module], module) if ours(i)]


def test_rules_need_no_clock_no_network_and_no_event_loop():
    forbidden = {"asyncio", "time", "datetime", "socket", "sqlite3", "aiohttp", "random"}
    for module, source in modules().items():
        if module.startswith("rules."):
            assert not {name.split(".")[0] for name in imports(source, module)} & forbidden, module


def test_what_assembles_is_imported_by_the_command_line_only():
    importers = {
        module
        for module, source in modules().items()
        if "app" in {ours(imported) for imported in imports(source, module)}
    }
    assert importers == {"control", "cli"}


def test_the_agent_imports_nothing_of_the_hub_but_the_protocol():
    for module, source in modules(AGENT).items():
        from_hub = {ours(i) for i in imports(source, module, "agent")} - {None}
        assert from_hub <= {"protocol"}, module


def test_the_hub_imports_nothing_of_the_agent():
    for module, source in modules().items():
        assert not [i for i in imports(source, module) if i.split(".")[0] == "agent"], module


def test_no_file_has_a_vague_name():
    names = {file.stem for root in (HUB, AGENT) for file in root.rglob("*.py")}
    assert not names & VAGUE
