"""The links of the guides lead somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("packages/*/README.md")])
_CODE = re.compile(r"^( *)```.*?^\1```", re.S | re.M)
_LINK = re.compile(r"\]\((?!https?:)(?P<path>[^)#\s]*)(?:#(?P<anchor>[^)\s]+))?\)")
_MENTION = re.compile(r"`(?P<path>docs/[a-z0-9/_-]+\.md)`")


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", _CODE.sub("", page.read_text("utf-8")), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dead_links(page: Path) -> Iterator[str]:
    text = _CODE.sub("", page.read_text("utf-8"))
    for link in _LINK.finditer(text):
        target = (page.parent / link["path"]).resolve() if link["path"] else page
        if not target.exists() or (link["anchor"] and link["anchor"] not in anchors(target)):
            yield link[0]
    for mention in _MENTION.finditer(text):
        if not (ROOT / mention["path"]).exists():
            yield mention[0]


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_no_link_is_dead(page: Path) -> None:
    """What a page links to within this tree is there, to the heading."""
    assert list(dead_links(page)) == []


def test_every_guide_is_reachable_from_the_readme() -> None:
    """A reader who starts at the README finds each page."""
    reached, open_pages = set[Path](), [ROOT / "README.md"]
    while open_pages:
        page = open_pages.pop()
        if page in reached or page.suffix != ".md" or not page.exists():
            continue
        reached.add(page)
        links = _LINK.finditer(_CODE.sub("", page.read_text("utf-8")))
        open_pages += [(page.parent / link["path"]).resolve() for link in links if link["path"]]
    assert [str(page.relative_to(ROOT)) for page in sorted((ROOT / "docs").rglob("*.md")) if page not in reached] == []
