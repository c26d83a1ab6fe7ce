"""The documentation as a site: it builds strictly, is complete, and loads nothing from other hosts."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

import mob
from tests.chromium import DESKTOP, Pages, launched, needs_chromium
from tests.docs.blocks import ROOT
from tests.patience import patient

DOCS = ROOT / "docs"
LOADED = re.compile(r"""<(?:script|img|iframe|link|source)\b[^>]*?\b(?:src|href)=["']?([^"'\s>]+)""")
FOREIGN = re.compile(r"(https?:)?//")


def build(root: Path, place: Path) -> tuple[int, list[str]]:
    """Build the site, and return the status and the warnings. With --quiet mkdocs would count no warnings."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(place)]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, timeout=patient(100))
    return built.returncode, [line for line in built.stderr.splitlines() if not line.startswith("INFO")]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; warnings are errors."""
    place = tmp_path_factory.mktemp("site")
    status, warnings = build(ROOT, place)
    assert status == 0, "\n".join(warnings)
    return place


def test_a_link_that_leads_nowhere_is_an_error(tmp_path: Path) -> None:
    """A site of two pages, with the hooks and the validation of the real one, does not build."""
    (tmp_path / "docs").mkdir()
    shutil.copy(DOCS / "hooks.py", tmp_path / "docs")
    (tmp_path / "docs" / "index.md").write_text("# A\n[a](nowhere.md) [b](../bench/NOT.md) [c](b.md#not) [d](b.md)\n")
    (tmp_path / "docs" / "b.md").write_text("# B\n")
    validation = re.search(r"^validation:\n(?:  .*\n)+", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    assert validation is not None
    (tmp_path / "mkdocs.yml").write_text(f"site_name: a\nhooks: [docs/hooks.py]\nplugins: []\n{validation[0]}")
    status, warnings = build(tmp_path, tmp_path / "site")
    assert status == 1
    assert [word for word in ("nowhere.md", "../bench/NOT.md", "b.md#not") if word not in "\n".join(warnings)] == []


def test_it_loads_nothing_from_any_other_host(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    loaded = {each for page in pages for each in LOADED.findall(page.read_text("utf-8"))}
    styles = {each for path in site.rglob("*.css") for each in re.findall(r"url\(([^)]+)\)", path.read_text("utf-8"))}
    assert len(pages) > 20
    assert loaded
    assert {each for each in loaded | styles if FOREIGN.match(each.strip("\"'"))} == set()


def test_the_comments_for_the_tests_are_not_in_it(site: Path) -> None:
    assert [page for page in site.rglob("*.html") if "<!-- run:" in page.read_text("utf-8")] == []


def test_what_lies_around_the_docs_is_in_it_and_linked(site: Path) -> None:
    assert 'href="repository/bench/CLUSTERING.html"' in (site / "cluster.html").read_text("utf-8")
    assert 'href="repository/CHANGELOG.html"' in (site / "index.html").read_text("utf-8")
    assert (site / "repository" / "CHANGELOG.html").is_file()


@needs_chromium
def test_search_works_in_pages_that_are_opened_from_a_disk(site: Path) -> None:
    with launched() as chromium:
        pages = Pages(chromium, {**DESKTOP, "width": 1300})  # narrower ones hide the field
        page = pages((site / "api" / "app.html").as_uri())
        page.click(".md-search__input")
        page.keyboard.type("limit memory")
        found = page.wait_for_selector(".md-search-result__item a[href*='supervision.html']")
        assert "Supervision" in found.inner_text()
        assert pages.complaints == []


def test_the_dashboard_for_grafana_can_be_downloaded(site: Path) -> None:
    assert (site / "grafana.json").read_bytes() == (DOCS / "grafana.json").read_bytes()
    assert 'href="grafana.json"' in (site / "metrics.html").read_text("utf-8")


def test_every_public_name_is_documented_once() -> None:
    told = re.findall(r"^::: mob\.(\w+)$", "".join(page.read_text("utf-8") for page in DOCS.glob("api/*.md")), re.M)
    assert Counter(name for name in told if name != "testing") == Counter(mob.__all__)


def test_the_tree_of_errors_is_that_of_the_code() -> None:
    assert mob.errors.__doc__ is not None
    tree = "".join(f"{line[4:]}\n" for line in mob.errors.__doc__.splitlines() if line.startswith("    "))
    assert f"```text\n{tree}```\n" in (DOCS / "api" / "errors.md").read_text("utf-8")


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    sections = yaml.safe_load(text)["nav"]
    listed = [page for section in sections for pages in section.values() for page in pages]
    assert sorted(listed) == sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))
