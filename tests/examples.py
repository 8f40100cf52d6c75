"""The code in the documents: `python -m tests.examples FOLDER` writes it there, a file each."""

import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_CODE = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def examples() -> dict[str, str]:
    """By a name, which tells the document and the place in it, what is between each pair of fences
    that say that it is Python."""
    found = {}
    for document in sorted((*ROOT.glob("*.md"), *ROOT.glob("*/*.md"), *ROOT.glob("*/*/*.md"))):
        place = "_".join(document.relative_to(ROOT).with_suffix("").parts)
        for number, code in enumerate(_CODE.findall(document.read_text())):
            found[f"{place}_{number}"] = code
    return found


def names_of(document: str, number: int = 0) -> dict[str, Any]:
    """What an example of a document defines."""
    names: dict[str, Any] = {"__name__": document}
    exec(examples()[f"{document}_{number}"], names)
    return names


def main() -> None:
    """Write them."""
    folder = Path(sys.argv[1])
    folder.mkdir(exist_ok=True)
    for path in folder.glob("*.py"):
        path.unlink()
    for name, code in examples().items():
        (folder / f"{name}.py").write_text(code)


if __name__ == "__main__":
    main()
