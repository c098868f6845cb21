#!/usr/bin/env bash
# modulefinder of Python 3.11 (the standard library; nothing is installed), seen on 3.11.7.
#
# `modulefinder` lists the modules that a script imports. A folder without `__init__.py` has been a package since Python 3.3
# (PEP 420), so a script can import it. One would expect to find it among the modules, or among the missing ones, as any
# other name that cannot be found. Instead the whole search ends in an AttributeError, whatever else the script imports. A
# folder `data` next to a script with `import data` is enough.
#
# Seen:
#   run: fine
#   modulefinder: AttributeError: 'NoneType' object has no attribute 'is_package'
set -euo pipefail
python=${FINDINGS_PYTHON:-python3}
"$python" -c "import sys; sys.exit(0 if sys.version_info[:2] == (3, 11) else 2)" || { echo "needs Python 3.11"; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/data"
echo "value = 1" > "$folder/data/part.py"
echo "import json, data.part; print('fine')" > "$folder/script.py"

seen=$(echo "run: $("$python" "$folder/script.py")"; "$python" - "$folder" <<'PYTHON'
import sys
from modulefinder import ModuleFinder

finder = ModuleFinder(path=[sys.argv[1]])
try:
    finder.run_script(f"{sys.argv[1]}/script.py")
    print("modulefinder:", sorted(finder.modules), sorted(finder.badmodules))
except Exception as error:
    print(f"modulefinder: {type(error).__name__}: {error}")
PYTHON
)
echo "$seen"
[ "$seen" = "run: fine
modulefinder: AttributeError: 'NoneType' object has no attribute 'is_package'" ] || { echo "changed"; exit 1; }
