#!/usr/bin/env bash
# datasets 5.2.0 (with fsspec 2026.9.0 and pillow 13.0.0), seen on Python 3.11.
#
# `load_dataset` reads a folder of images by class: train/blank/0.png is a training image of the class `blank`. One would
# expect the same for train/test/0.png, a training image of the class `test`. But `datasets` takes a folder with the name of
# a split for that split at any depth. So the images of this class are in both splits, and a model is tested on images that
# it was trained on. There is no warning, and the accuracy rises. The same happens with `testing`, `eval` and `evaluation`,
# with `train` and `training` below test/, and with a file train_test_merged.csv next to train.csv and test.csv.
#
# Seen:
#   blank: train 8, test 4, in both 0
#   test: train 8, test 8, in both 4
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
pins="datasets==5.2.0 fsspec==2026.9.0 pillow==13.0.0"
if [ -n "${FINDINGS_PYTHON:-}" ]; then
    python=$FINDINGS_PYTHON
    for pin in $pins; do
        "$python" -c "import sys, importlib.metadata as m; n, v = sys.argv[1].split('=='); sys.exit(m.version(n) != v)" "$pin" ||
            { echo "needs $pin"; exit 2; }
    done
else
    python3 -m venv "$folder/venv"
    python=$folder/venv/bin/python
    # shellcheck disable=SC2086
    "$python" -m pip install -q $pins
fi

seen=$(cd "$folder" && HF_DATASETS_CACHE=$folder/cache HF_HUB_OFFLINE=1 "$python" - <<'PYTHON'
from pathlib import Path

import datasets
from PIL import Image

datasets.disable_progress_bars()
for name in ("blank", "test"):
    for split, n_images in (("train", 8), ("test", 4)):
        for number in range(n_images):
            path = Path("images-" + name) / split / (name, "zebra")[number % 2] / f"{split}-{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (4, 4), number).save(path)
    data = datasets.load_dataset("images-" + name)
    files = {
        split: {image["path"] for image in data[split].with_format("arrow")[:].column("image").to_pylist()}
        for split in data
    }
    both = files["train"] & files["test"]
    print(f"{name}: train {len(data['train'])}, test {len(data['test'])}, in both {len(both)}")
PYTHON
)
echo "$seen"
[ "$seen" = "blank: train 8, test 4, in both 0
test: train 8, test 8, in both 4" ] || { echo "changed"; exit 1; }
