"""How-to pages, followed as they stand: each `$ command` of their console blocks, and what it prints.

A block after a line that ends with `name`: is a file, which the reader saves under that name.

A page shows examples of what differs from run to run. The runner knows them by their shape, and puts what it
got itself into the commands that follow, as a reader would:

    sk-lmb-5f0c… or wt-lmb-5f0c…   a secret, shortened
    0fe9e82d847d72ba               an id: sixteen hexadecimal digits
    2026-01-31 12:00:00            a moment; so is a number of Unix seconds
    …                              anything; alone on a line, any number of lines
"""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from tests.processes import PATIENCE_S, environment

SECRET = r"(?:sk|wt)-lmb-[0-9a-f]+…?"
ID = r"\b[0-9a-f]{16}\b"
EXAMPLE = re.compile(
    rf"(?P<secret>{SECRET})|(?P<id>{ID})|(?P<moment>\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d|\b1\d{{9}}\b)|(?P<any>…)"
)
END = "\x1e"


class Step(NamedTuple):
    """A command of a page, what the page shows of its output, and where."""

    command: str
    shown: list[str]
    line: int


class Saved(NamedTuple):
    """A file of a page."""

    name: str
    content: str


def saved(text: str) -> list[Saved]:
    """All files of a page."""
    found = re.findall(
        r"`([\w.-]+)`:\n\n```(?!console)\w*\n(.*?)^```$", text, re.DOTALL | re.MULTILINE
    )
    return [Saved(name, content) for name, content in found]


def steps(text: str) -> list[Step]:
    """All commands of a page's console blocks, in order."""
    found: list[Step] = []
    inside, continued = False, False
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("```"):
            inside = line == "```console"
        elif inside and continued:
            found[-1] = found[-1]._replace(command=f"{found[-1].command}\n{line}")
        elif inside and line.startswith("$ "):
            found.append(Step(line[2:], [], number))
        elif inside:
            found[-1].shown.append(line.rstrip())
        continued = inside and line.endswith("\\") and not (found and found[-1].shown)
    return found


class Shell:
    """One bash for a whole page, so that its variables live on."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def run(self, command: str) -> list[str]:
        """The lines that a command prints, on both outputs."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # A command that reads must not eat those that follow.
        script = f"{{ {command}\n}} </dev/null\nprintf '%s' '{END}'\n"
        self._process.stdin.write(script.encode())
        async with asyncio.timeout(PATIENCE_S):
            printed = (await self._process.stdout.readuntil(END.encode())).decode()
        lines = printed.removesuffix(END).split("\n")
        return [line.rstrip() for line in (lines[:-1] if lines[-1] == "" else lines)]


@asynccontextmanager
async def shell(directory: Path, *places: Path, **environ: str) -> AsyncIterator[Shell]:
    """A bash in a directory, with our programs on its path, and those of other places."""
    path = [Path(sys.executable).parent, *places, os.environ["PATH"]]
    environ = {"PATH": os.pathsep.join(map(str, path)), "PYTHONIOENCODING": "utf-8", **environ}
    process = await asyncio.create_subprocess_exec(
        *("bash", "--norc", "--noprofile"),
        cwd=directory,
        env=environment(TZ="UTC", **environ),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield Shell(process)
    finally:
        process.kill()
        await process.wait()


class Reader:
    """Somebody who follows a page, and remembers what came where the page has an example."""

    def __init__(self, known: dict[str, str]) -> None:
        """`known` says what stands for what from the start, such as the hub's address."""
        self.known = dict(known)

    def typed(self, command: str) -> str:
        """A command as it is typed: with one's own values."""
        for example in sorted(self.known, key=len, reverse=True):
            command = command.replace(example, self.known[example])
        return command

    def compare(self, step: Step, printed: list[str]) -> None:
        """Raises AssertionError unless the output is as shown."""
        expected = "\n".join(step.shown)
        for example in (name for name in self.known if not EXAMPLE.fullmatch(name)):
            expected = expected.replace(example, self.known[example])
        pattern, examples = self._pattern(expected)
        match = re.fullmatch(pattern, "\n".join(printed))
        assert match is not None, (
            f"line {step.line}: $ {step.command}\n--- the page shows\n{expected}\n--- it printed\n"
            + "\n".join(printed)
        )
        self.known |= zip(examples, match.groups(), strict=True)

    def _pattern(self, expected: str) -> tuple[str, list[str]]:
        """A pattern for an output, and the new examples in it, one for each of the pattern's groups."""
        pattern, examples, at = "", list[str](), 0
        for found in EXAMPLE.finditer(expected):
            pattern += re.escape(expected[at : found.start()])
            at, example = found.end(), found[0]
            if example in self.known:
                pattern += re.escape(self.known[example])
            elif example in examples:
                pattern += rf"\{examples.index(example) + 1}"
            elif found.lastgroup in ("id", "secret"):
                examples.append(example)
                pattern += f"({_shape(example)})"
            else:
                pattern += self._anything(found, expected)
        return pattern + re.escape(expected[at:]), examples

    def _anything(self, found: re.Match[str], expected: str) -> str:
        if found.lastgroup == "moment":
            return rf"[\d: -]{{{len(found[0])}}}"
        lines = f"\n{expected}\n"
        alone = lines[found.start()] == lines[found.end() + 1] == "\n"
        return r"[\s\S]*?" if alone else ".*?"


def _shape(example: str) -> str:
    """What is like an example: a whole secret for a shortened one, else as many digits."""
    prefix = re.match("(?:sk|wt)-lmb-", example)
    start = prefix[0] if prefix else ""
    digits = 48 if example.endswith("…") else len(example) - len(start)
    return rf"{start}[0-9a-f]{{{digits}}}"


async def follow(
    page: str, directory: Path, known: dict[str, str] | None = None, *places: Path, **environ: str
) -> None:
    """Carry out the text of a page in a directory, with programs from these places.

    Raises AssertionError where something else comes than it shows.
    """
    reader = Reader(known or {})
    for name, content in saved(page):
        (directory / name).write_text(reader.typed(content), "utf-8")
    async with shell(directory, *places, **environ) as bash:
        for step in steps(page):
            reader.compare(step, await bash.run(reader.typed(step.command)))
