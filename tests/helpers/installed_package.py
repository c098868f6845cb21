"""A package of somebody else, as pip leaves one: modules, and metadata with entry points."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ganno_bench.core import registry

MODULE = '''
"""Everything that a package may bring."""
import datasets
import torch
from dataclasses import dataclass
from torch import nn
from ganno_bench.marl.rewards import reward
from ganno_bench.policies.observations import feature
from ganno_bench.schedulers import ClosedForm

@dataclass(frozen=True)
class Halved(ClosedForm):
    """Half of the base learning rate."""
    def factor(self, update, total):
        return 0.5

class Narrow(nn.Module):
    """A hidden layer for each unit of depth."""
    def __init__(self, shape, *, depth: int, width: int = 8):
        super().__init__()
        sizes = [shape.input_shape[0] * shape.input_shape[1] * shape.input_shape[2], *[width] * depth]
        self.stack = nn.Sequential(*(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:])))
        self.head = nn.Linear(width, shape.n_outputs)
    def forward(self, inputs):
        hidden = inputs.flatten(1)
        for layer in self.stack:
            hidden = torch.tanh(layer(hidden))
        return self.head(hidden)

def moods():
    """Short texts, good or bad."""
    texts = [f"{word} {number}" for number in range(30) for word in ("good", "bad")]
    rows = [{"text": text, "mood": int(text.startswith("good"))} for text in texts]
    return {"train": datasets.Dataset.from_list(rows[:40]), "test": datasets.Dataset.from_list(rows[40:])}

@feature("grad_norm")
def loudest(view):
    """Whether the layer has the run's greatest gradient norm."""
    norms = view.layer("grad_norm")
    return (norms == norms.amax(1, keepdim=True)).double()

@reward()
def steady(transition):
    """Minus the distance of the validation loss from what it was."""
    return -(transition.val_after - transition.val_before).abs()[:, None]
'''
POINTS = {
    "schedulers": "halved = other_things:Halved\nunwell = no_such_module:Thing",
    "models": "narrow = other_things:Narrow\nunwell = other_things:Narow",
    "datasets": "moods-of-others = other_things:moods\nunwell = other_things:__doc__",
    "observations": "loudest = other_things:loudest\nunwell = other_things:moods",
    "rewards": "steady = other_things:steady\nunwell = other_things:moods",
}
NAMES = ("halved", "narrow", "moods-of-others", "loudest", "steady")


class Package:
    """The package `other-things`, which is installed as long as the test lasts."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.file = folder / "other_things.py"
        self.info = folder / "other_things-0.3.dist-info"
        self._patch = patch
        folder.mkdir()
        self.info.mkdir()
        points = "\n".join(f"[ganno_bench.{group}]\n{lines}" for group, lines in POINTS.items())
        (self.info / "entry_points.txt").write_text(points + "\n")
        self.release("0.3")
        patch.syspath_prepend(str(folder))
        self.write(MODULE)

    def release(self, version: str) -> None:
        """Have another version installed."""
        (self.info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: other-things\nVersion: {version}\n")
        registry._installed.cache_clear()

    def write(self, text: str) -> None:
        """Have other code installed."""
        self.file.write_text(text)
        self._patch.delitem(sys.modules, "other_things", raising=False)

    def uninstall(self) -> None:
        """Take it away."""
        for path in self.info.iterdir():
            path.unlink()
        self.info.rmdir()
        registry._installed.cache_clear()
