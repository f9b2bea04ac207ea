"""Writing into a page what was measured, between its markers; the rest of the page is written by people."""

from __future__ import annotations

import re

__all__ = ["filled"]


def filled(page: str, parts: dict[str, str]) -> str:
    """The page with each part between `<!-- NAME: begin -->` and `<!-- NAME: end -->`. A missing marker is an error."""
    for name, text in parts.items():
        pattern = re.compile(rf"(<!-- {re.escape(name)}: begin -->\n).*?(<!-- {re.escape(name)}: end -->)", re.DOTALL)
        page, found = pattern.subn(lambda match, text=text: f"{match[1]}\n{text}\n\n{match[2]}", page)
        if found != 1:
            raise ValueError(f"The page has {found} places for {name!r}, not one.")
    return page
