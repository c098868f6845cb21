#!/usr/bin/env bash
# pydantic 2.14.4 (pydantic-core of the same release), seen on Python 3.11.
#
# A strict model refuses `true` for an `int`, because strict mode converts nothing. One would expect the same for
# `Literal[1]`, which allows a single int: `{"version": true}` should be refused. But it is accepted, and so is 1.0, from
# JSON and from Python. The attribute is then the int 1, and is written as 1. `"1"` is refused. So a strict Literal that
# checks the version of a file does not check its type.
#
# Seen:
#   int:     true refused, 1.0 refused, "1" refused
#   Literal: true -> 1, 1.0 -> 1, "1" refused
set -euo pipefail
pinned="pydantic==2.14.4"
if [ -n "${FINDINGS_PYTHON:-}" ]; then
	python=$FINDINGS_PYTHON
else
	folder=$(mktemp -d)
	trap 'rm -rf "$folder"' EXIT
	python3 -m venv "$folder/venv"
	python=$folder/venv/bin/python
	"$python" -m pip install --quiet "$pinned"
fi
"$python" -c "import pydantic, sys; sys.exit(0 if pydantic.VERSION == '2.14.4' else 2)" ||
	{ echo "needs $pinned"; exit 2; }

seen=$("$python" - <<'PYTHON'
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError


class Whole(BaseModel):
    model_config = ConfigDict(strict=True)
    version: int


class One(BaseModel):
    model_config = ConfigDict(strict=True)
    version: Literal[1]


def taken(model, text):
    try:
        return "-> " + repr(model.model_validate_json('{"version": %s}' % text).version)
    except ValidationError:
        return "refused"


for name, model in (("int:    ", Whole), ("Literal:", One)):
    print(name, ", ".join(text + " " + taken(model, text) for text in ("true", "1.0", '"1"')))
PYTHON
)
echo "$seen"
[ "$seen" = 'int:     true refused, 1.0 refused, "1" refused
Literal: true -> 1, 1.0 -> 1, "1" refused' ] || { echo "changed"; exit 1; }
