"""Adapts pages that are also read in the repository to the site.

* Comments that say how the tests run a block are removed.
* A link whose text is the file name of a page gets the title of that page.
* Links out of docs/ keep working: a page there (bench/RESULTS.md) becomes part of the site; for any other file the name
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
"""Directory of the site for pages that are not in docs/."""
EARLY_IN_SEARCH = ("operating.md", "recipes.md", "supervision.md")
"""Pages that search lists above the others, because their headings are what people ask."""
LATE_IN_SEARCH = (f"{AROUND}/", "api/", "internals/")
"""Beginnings of pages that search lists below the guides: reports, changes, reference, and pages for maintainers."""


def on_files(files: Files, config: Any) -> Files:
    """Add the pages around docs/ to the site."""
    for path in sorted(found for pattern in TAKEN for found in ROOT.glob(pattern)):
        name = path.relative_to(ROOT).as_posix()
        page = File.generated(config, f"{AROUND}/{name.replace('README', 'readme')}", content=path.read_text("utf-8"))
        page.inclusion = InclusionLevel.NOT_IN_NAV
        files.append(page)
    return files


def on_page_markdown(markdown: str, page: Any, files: Files, **_: Any) -> str:
    """Remove the comments, and point each link to the place of its page in the site."""
    here = page.file.src_uri
    boost = 0.3 if here.startswith(LATE_IN_SEARCH) else 2.0 if here in EARLY_IN_SEARCH else 1.0
    page.meta.setdefault("search", {"boost": boost})

    def led(link: re.Match[str]) -> str:
        target = _in_site(here, link["target"])
        found = files.get_file_from_path(target)
        if found is None:  # a missing file is left as it is, so that mkdocs reports it
            return link["text"] if _is_around(target) else link[0]
        text = _title(found.content_string) if link["text"] == link["target"] else link["text"]
        return f"[{text}]({os.path.relpath(target, os.path.dirname(here) or '.')}{link['anchor'] or ''})"

    return LINK.sub(led, RUN.sub("", markdown))


def _is_around(target: str) -> bool:
    """Return whether the target is a file of the repository that is not part of the site."""
    return target.startswith(f"{AROUND}/") and (ROOT / target.removeprefix(f"{AROUND}/")).exists()


def _title(markdown: str) -> str:
    """Return the first heading of a page."""
    return markdown.partition("# ")[2].partition("\n")[0].replace("`", "")


def _in_site(here: str, target: str) -> str:
    """Return the place of a link's target in the site."""
    around = here.startswith(f"{AROUND}/")
    place = here.removeprefix(f"{AROUND}/") if around else f"docs/{here}"
    whole = os.path.normpath(os.path.join(os.path.dirname(place), target))
    if (ROOT / whole).is_dir():
        whole = f"{whole}/README.md"
    return whole.removeprefix("docs/") if whole.startswith("docs/") else f"{AROUND}/{whole.replace('README', 'readme')}"
