"""Counts the words of every text in `texts/`, on all cores, and writes the counts to `counts/`.

Ctrl-C stops it at any moment. The next run does the rest. A text that fails does not affect the others.
"""

import json
import random
import re
import sys
from collections import Counter
from concurrent.futures import Future, as_completed
from pathlib import Path

from rich.progress import track

import mob

TEXTS = Path(__file__).with_name("texts")
COUNTS = Path(__file__).with_name("counts")


def count(text: Path) -> int:
    """Process one file, in a worker. Return its number of words."""
    words = Counter(re.findall(r"\w+", text.read_text("utf-8").lower()))
    save(counts_of(text), json.dumps(words))
    return words.total()


def counts_of(text: Path) -> Path:
    return COUNTS / f"{text.stem}.json"


def save(path: Path, data: str) -> None:
    """Write a file completely or not at all. So a file that exists is complete, and work may be repeated."""
    part = path.with_suffix(".part")
    part.write_text(data)
    part.replace(path)


def main() -> int:
    if not TEXTS.is_dir():
        make_texts()
    COUNTS.mkdir(exist_ok=True)
    todo = [text for text in sorted(TEXTS.iterdir()) if not counts_of(text).exists()]
    words = 0
    failed: list[str] = []
    try:
        with mob.Pool(timeout=60, retries=1) as pool:  # for each text: a minute, and a second try if its worker crashes
            texts: dict[Future[int], Path] = {pool.submit(count, text): text for text in todo}
            for future in track(as_completed(texts), "Counting", total=len(todo)):
                if error := future.exception():
                    failed.append(f"{texts[future].name}: {type(error).__name__}: {error}")
                else:
                    words += future.result()
    except KeyboardInterrupt:
        print("Stopped. Run it again to do the rest.")
    done = sum(counts_of(text).exists() for text in todo)
    print(f"{done} of {len(todo)} texts done, {words:,} words. {len(failed)} failed.")
    for line in sorted(failed):
        print(line)
    return 0 if done == len(todo) else 1


def make_texts() -> None:
    """Create input: a hundred texts of made-up words. One of them is not a text."""
    chance = random.Random(19)
    syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
    words = ["".join(chance.choices(syllables, k=3)) for _ in range(5000)]
    TEXTS.mkdir()
    for number in range(100):
        (TEXTS / f"{number:03}.txt").write_text(" ".join(chance.choices(words, k=50_000)))
    (TEXTS / "042.txt").write_bytes(b"\xff\xfe is not how a text in UTF-8 begins")


if __name__ == "__main__":
    sys.exit(main())
