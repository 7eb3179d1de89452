"""LMArena Bridge's hub: the OpenAI API in front, browser tabs and desktop agents behind."""

__version__ = "0.1.0"
