"""What is in a page."""

import json
import re

NEW = "simulated/session_2"


def content_of(path):
    """The numbers in a page."""
    text = path.read_text(encoding="utf-8")
    return json.loads(
        re.search(r'<script type="application/json" id="content">(.*?)</script>', text, re.DOTALL)[
            1
        ]
    )
