"""What a page says to type, as it says it."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def fenced(page: str, beginning: str) -> str:
    """The block of the page that begins like this."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    (found,) = (block for block in blocks if block.startswith(beginning))
    return str(found)


def inline(page: str, beginning: str) -> str:
    """The words in code font that begin like this."""
    words = re.findall(r"`([^`\n]+)`", (ROOT / page).read_text())
    (found,) = {word for word in words if word.startswith(beginning)}
    return str(found)
