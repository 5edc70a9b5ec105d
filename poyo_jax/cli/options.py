"""Types of options that several commands have; the help shows the words in capitals."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

Model = Annotated[Positional[str], arg(metavar="MODEL")]
Sessions = Annotated[Positional[Path], arg(metavar="SESSIONS")]
Folder = Annotated[Positional[Path], arg(metavar="FOLDER")]
MaybeFolder = Annotated[Positional[Path | None], arg(metavar="FOLDER")]
# Without the option the value is None.
MaybeInt = Annotated[int | None, arg(metavar="INT")]
MaybeFloat = Annotated[float | None, arg(metavar="FLOAT")]
MaybeText = Annotated[str | None, arg(metavar="TEXT")]
MaybePath = Annotated[Path | None, arg(metavar="PATH")]
