"""How the documentation is built: `make docs`.

Its source is the whole repository, so that each README is a page of its own, at its own place, and
every link among them is checked.
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

project = "OSMO pipeline"
author = "the OSMO pipeline's contributors"
root_doc = "docs/index"
extensions = ["myst_parser", "reference"]

include_patterns = ["*.md", "docs/**.md", "libs/*/*.md", "services/*/*.md", "benchmarks/**.md"]
exclude_patterns = ["site", ".*", "tests", "**/peers"]

myst_heading_anchors = 4
myst_enable_extensions = ["deflist"]

html_theme = "furo"
html_title = project
html_extra_path = ["redirect"]
html_show_sphinx = False
html_copy_source = False
