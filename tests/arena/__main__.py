"""The practice arena as a process: `python -m tests.arena --port 9000`; it ends with Ctrl-C or SIGTERM."""

import asyncio
import signal
import ssl

import click

from tests.arena import Arena, practice_arena


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=0, help="0 takes a free one.", show_default=True)
@click.option("--csp", type=click.Choice(Arena.__dict__["csp"].choices[1:]))
@click.option("--design", type=click.Choice(Arena.__dict__["design"].choices), default="today")
@click.option("--saves-fetch", is_flag=True, help="The page keeps its own reference to fetch.")
@click.option("--reader-cancel", is_flag=True, help="The page stops with reader.cancel().")
@click.option("--scenario", default="normal", help="For prompts that name none.")
@click.option("--models", default=1000, show_default=True)
@click.option("--tls-cert", type=click.Path(exists=True), help="A PEM file.")
@click.option("--tls-key", type=click.Path(exists=True), help="A PEM file.")
def main(tls_cert: str | None, tls_key: str | None, **options: object) -> None:
    """Play the site until told to stop."""
    tls = None
    if tls_cert:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(tls_cert, tls_key)
    asyncio.run(play(tls=tls, **options))


async def play(**options: object) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    async with practice_arena(**options) as arena:
        print(arena.url, flush=True)
        await ended.wait()


if __name__ == "__main__":
    main()
