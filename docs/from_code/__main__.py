"""Write every page that is made from the code: `python -m docs.from_code`."""

from __future__ import annotations

from docs.from_code.pages import made

for path, text in made().items():
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
