"""What the documents say is so: commands, options, settings, error codes, links."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import agent.cli
import hub.cli
from hub import errors
from hub.settings import Settings, field_paths
from hub.web.operations import OPERATIONS

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAMS: dict[str, click.Command] = {"lmarena-hub": hub.cli.main, "lmarena-agent": agent.cli.main}

EACH_DOCUMENT = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=[str(document.relative_to(ROOT)) for document in DOCUMENTS]
)


def code_in(text: str) -> Iterator[str]:
    """Every line of a code block, with continued lines joined, and every piece of inline code."""
    blocks = re.findall(r"^ *```[^\n]*\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    for block in blocks:
        yield from block.replace("\\\n", " ").splitlines()
    prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
    for span in re.findall(r"`([^`]+)`", prose):
        yield " ".join(span.split())


def command_lines(text: str) -> Iterator[tuple[str, list[str]]]:
    """Every use of one of our programs: its name, and the words after it."""
    for code in code_in(text):
        for program, rest in re.findall(
            r"\b(lmarena-hub|lmarena-agent)((?:\s[^|;&<>#)`]*)?)", code
        ):
            yield program, rest.split()


def complaints(program: str, words: list[str]) -> list[str]:
    """What the program would not know of these words."""
    command = PROGRAMS[program]
    found = []
    names = iter(words)
    for word in names:
        if word.startswith("-"):
            option = word.partition("=")[0]
            context = click.Context(command)
            known = {
                o: p for p in command.get_params(context) for o in (*p.opts, *p.secondary_opts)
            }
            if option not in known:
                found.append(f"{command.name} has no option {option}")
            elif "=" not in word and not getattr(known[option], "is_flag", False):
                next(names, None)
        elif isinstance(command, click.Group):
            if word not in command.commands:
                return [*found, f"{command.name} has no command {word}"]
            command = command.commands[word]
    return found


def targets(makefile: str) -> set[str]:
    return set(re.findall(r"^([a-z][\w-]*)\s*:(?!=)", makefile, re.MULTILINE))


def made(text: str) -> set[str]:
    """What `make` is told to make in a document's code."""
    return {
        name for code in code_in(text) for name in re.findall(r"^\$?\s*make ([a-z][\w-]*)", code)
    }


def error_codes() -> set[str]:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    return {kind.code for kind in kinds if issubclass(kind, errors.HubError) and kind.code}


# --- the checks themselves -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("lmarena-hub serve --host 0.0.0.0 --port=80", []),
        ("KEY=$(lmarena-hub key create --name me) && echo", []),
        ("lmarena-hub", []),
        ("lmarena-hub --help", []),
        ("lmarena-hub key revoke ID --data DIR | cat", []),
        ("lmarena-agent --hub http://h --engine echo --slots 3", []),
        ("lmarena-hub sing", ["main has no command sing"]),
        ("lmarena-hub key invent --name me", ["key has no command invent"]),
        ("lmarena-hub serve --loud", ["serve has no option --loud"]),
        ("lmarena-agent --speed 3", ["main has no option --speed"]),
    ],
)
def test_the_checker_knows_right_from_wrong(line, wrong):
    for document in (f"Say `{line}`.", f"```sh\n{line}\n```\n"):
        [(program, words)] = command_lines(document)
        assert complaints(program, words) == wrong


def test_the_checker_reads_continued_lines():
    [(program, words)] = command_lines("```\nlmarena-agent --hub x \\\n  --wrong\n```\n")
    assert complaints(program, words) == ["main has no option --wrong"]


def test_the_checker_finds_what_is_made():
    assert made("Run `make check`, then\n```\nmake all\n```\nto make sure.") == {"check", "all"}
    assert targets("all: check\ncheck:\n\truff\nX := y\n") == {"all", "check"}


# --- the documents -------------------------------------------------------------------------------


def test_the_readme_is_neither_empty_nor_a_book():
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    assert 60 <= len(lines) <= 150


@EACH_DOCUMENT
def test_every_command_line_is_one_that_the_programs_know(document):
    lines = command_lines(document.read_text("utf-8"))
    assert not [wrong for program, words in lines for wrong in complaints(program, words)]


@EACH_DOCUMENT
def test_everything_to_make_is_in_the_makefile(document):
    wanted = made(document.read_text("utf-8"))
    assert not wanted or wanted <= targets((ROOT / "Makefile").read_text("utf-8"))


@EACH_DOCUMENT
def test_every_relative_link_leads_somewhere(document):
    text = re.sub(r"```.*?```|`[^`\n]*`", "", document.read_text("utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)", text)
    relative = [link for link in links if not re.match(r"[a-z]+:|/", link)]
    assert not [link for link in relative if not (document.parent / link).exists()]


@EACH_DOCUMENT
def test_every_file_for_deployment_is_there(document):
    """All but those that the page itself has one write."""
    text = "\n".join(code_in(document.read_text("utf-8")))
    named = set(re.findall(r"(?<![\w/])deploy/(?!test_)[\w./*-]+", text)) - {"deploy/docker/.env"}
    assert not [name for name in named if not list(ROOT.glob(name.rstrip("/")))]


def test_every_setting_is_described():
    text = (ROOT / "docs/reference/settings.md").read_text("utf-8")
    undescribed = [
        ".".join(path)
        for path in field_paths(Settings)
        if not re.search(rf"`(HUB_{'_'.join(path).upper()}|{re.escape('.'.join(path))})`", text)
    ]
    assert not undescribed


def leaves(group: click.Group, words: str = "lmarena-hub") -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, f"{words} {name}")
        else:
            yield f"{words} {name}"


def test_every_command_is_described():
    text = (ROOT / "docs/reference/command-line.md").read_text("utf-8")
    assert not [command for command in leaves(hub.cli.main) if f"`{command}" not in text]


def test_every_operation_and_each_of_its_members_is_described():
    text = (ROOT / "docs/reference/admin-api.md").read_text("utf-8")
    rows = {line.split(" | ")[0]: line for line in text.splitlines() if line.startswith("| ")}
    for operation in OPERATIONS:
        row = rows[f"| {operation.method} `{operation.path.removeprefix('/admin/api')}`"]
        unsaid = [n for n in operation.body.__struct_fields__ if f"`{n}`" not in row]
        assert not unsaid, operation.path


def test_every_error_code_is_described():
    text = (ROOT / "docs/reference/http.md").read_text("utf-8")
    assert not [code for code in sorted(error_codes()) if f"`{code}`" not in text]
