"""Redesigns of the page, and what a newer site profile says about those that data alone can mend."""

from typing import Any

from tests.arena.scenarios import CODES, OTHER_CODES

PROFILE_CHANGES: dict[str, dict[str, Any]] = {
    "today": {},
    "renamed": {
        "new_chat": {"path": "/chat/new", "model_parameter": "model"},
        "selectors": {
            "send": ".send-button",
            "stop": '[aria-label="Halt"]',
            "new_chat": 'a[href="/chat/new"]',
            "picker": ".model-button",
            "picker_filter": ".models input",
            "option": ".model-option",
        },
    },
    "codes": {},
}
"""By design. "new" is missing: its composer and buttons are elements of another kind."""


def codes_of(design: str) -> dict[str, str]:
    """What the lines of a stream are called, by their meaning."""
    return OTHER_CODES if design == "codes" else CODES


def look_of(design: str) -> str:
    """What the page looks like: "codes" changes only the stream."""
    return "today" if design == "codes" else design


def fitting(profile: dict[str, Any], design: str) -> dict[str, Any]:
    """The site profile, a version newer, made to fit a redesign. Raises KeyError for "new"."""
    changes = PROFILE_CHANGES[design]
    renamed = {CODES[name]: code for name, code in codes_of(design).items()}
    return {
        **profile,
        **changes,
        "version": profile["version"] + 1,
        "selectors": profile["selectors"] | changes.get("selectors", {}),
        "lines": {renamed[code]: meaning for code, meaning in profile["lines"].items()},
    }
