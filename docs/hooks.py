"""What the site does with pages that are written to be read in the repository as well.

* Comments that say how a block is run are for the tests: they are left out.
* A link whose text is the name of a page's file has the title of that page.
* Links out of docs/ keep working: a page there (bench/RESULTS.md) is taken into the site; of any other file the name
  remains, without a link.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).resolve().parent.parent
RUN = re.compile(r"^ *<!-- run: .*? -->\n", re.MULTILINE)
LINK = re.compile(r"\[(?P<text>[^\]\n]+)\]\((?P<target>[^)#:\s]+)(?P<anchor>#[^)\s]*)?\)")
TAKEN = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "bench/*.md", "examples/*/README.md"]
AROUND = "repository"
"""The directory of the site for what lies outside of docs/."""
LATE_IN_SEARCH = (f"{AROUND}/", "internals/")
"""Beginnings of pages that search lists below the others: reports, changes, and what only maintainers need."""


def on_files(files: Files, config: Any) -> Files:
    """Takes the pages around docs/ in."""
    for path in sorted(found for pattern in TAKEN for found in ROOT.glob(pattern)):
        name = path.relative_to(ROOT).as_posix()
        page = File.generated(config, f"{AROUND}/{name.replace('README', 'readme')}", content=path.read_text("utf-8"))
        page.inclusion = InclusionLevel.NOT_IN_NAV
        files.append(page)
    return files


def on_page_markdown(markdown: str, page: Any, files: Files, **_: Any) -> str:
    """Leaves the comments out, and has each link lead to where its page is in the site."""
    here = page.file.src_uri
    if here.startswith(LATE_IN_SEARCH):
        page.meta.setdefault("search", {"boost": 0.3})

    def led(link: re.Match[str]) -> str:
        target = _in_site(here, link["target"])
        found = files.get_file_from_path(target)
        if found is None:  # what is nowhere is left as it is, for mkdocs to complain of
            return link["text"] if _is_around(target) else link[0]
        text = _title(found.content_string) if link["text"] == link["target"] else link["text"]
        return f"[{text}]({os.path.relpath(target, os.path.dirname(here) or '.')}{link['anchor'] or ''})"

    return LINK.sub(led, RUN.sub("", markdown))


def _is_around(target: str) -> bool:
    """Whether it is a file of the repository outside of docs/ that the site has not."""
    return target.startswith(f"{AROUND}/") and (ROOT / target.removeprefix(f"{AROUND}/")).exists()


def _title(markdown: str) -> str:
    """The first heading of a page."""
    return markdown.partition("# ")[2].partition("\n")[0].replace("`", "")


def _in_site(here: str, target: str) -> str:
    """Where in the site the target of a link is."""
    around = here.startswith(f"{AROUND}/")
    place = here.removeprefix(f"{AROUND}/") if around else f"docs/{here}"
    whole = os.path.normpath(os.path.join(os.path.dirname(place), target))
    if (ROOT / whole).is_dir():
        whole = f"{whole}/README.md"
    return whole.removeprefix("docs/") if whole.startswith("docs/") else f"{AROUND}/{whole.replace('README', 'readme')}"
