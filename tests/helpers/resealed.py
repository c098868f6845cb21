"""Lines of JSON that were edited, with the checksums that a writer would have given them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ganno_bench.core.checksums import Place, sealed
from ganno_bench.core.files import read_file, replace_file

_SEAL = re.compile(r'(,"after":"[^"]*")?,"checksum":"[^"]*"\}$')


def resealed(text: str) -> str:
    """Return lines of JSON with right checksums and, in the records of a run directory, right places."""
    place, lines = Place(), []
    for line in text.splitlines():
        found = _SEAL.search(line)
        if found is not None:
            line = sealed(line[: found.start()] + "}", place.hash if found[1] else "")
        lines.append(line + "\n")
        place.add(lines[-1].encode())
    return "".join(lines)


def sealed_data(data: dict[str, Any]) -> str:
    """Return a line of JSON of data that may have a checksum."""
    kept = {key: value for key, value in data.items() if key not in ("after", "checksum")}
    return sealed(json.dumps(kept, separators=(",", ":")))


def reseal(file: Path) -> None:
    """Give the lines of a file the checksums that they should have; forget how far it was written."""
    replace_file(file, resealed(read_file(file).decode()))
    file.with_suffix(".end").unlink(missing_ok=True)
