"""The practice arena: a stand-in for the site, for tests and for practice. See `app.py`."""

from tests.arena.app import practice_arena
from tests.arena.backstage import Arena, Prompt

__all__ = ["Arena", "Prompt", "practice_arena"]
