"""Step through DACBench's SGD environment, as a worker process of `peers.py`.

The worker reads requests from its standard input, one JSON object per line. It answers each with one line of JSON:

- `{"load": FILE, "depth": D, "width": W, "batch_size": B, "updates": U, "pictures": true}` makes an environment from
  an .npz file with `images`, uint8, shape (n, side, side), and `labels`, shape (n,). The first U batches are the
  training split, the other examples the validation split. So an epoch, which is one step, has U updates. The answer has
  `validation`, the number of validation examples.
- `{"steps": N}` resets the environment and makes N steps. The answer has `wall` and `cpu`, in seconds.

With `pictures`, the dataset returns pictures and the environment's loader converts and normalises each of them, as it
does with the datasets that DACBench comes with. Otherwise the dataset returns tensors that are ready.
"""

from __future__ import annotations

import json
import random
import sys
import time
import warnings
from itertools import pairwise
from typing import Any

warnings.filterwarnings("ignore")  # DACBench warns of optional parts that are not installed

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torchvision  # noqa: E402
from dacbench.benchmarks import SGDBenchmark  # noqa: E402
from dacbench.envs import SGDEnv, SGDInstance  # noqa: E402
from PIL import Image  # noqa: E402
from torch import nn  # noqa: E402
from torchvision import transforms  # noqa: E402

CUTOFF = 1000
"""Steps of an episode. If it is a multiple of the number of updates, each step evaluates the whole validation split."""


PREPARE = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.3,), (0.4,))])


def dataset(images: Any, labels: Any) -> type:
    """Return a class of datasets as torchvision has them; its instances hold all examples."""

    class Given(torch.utils.data.Dataset):  # type: ignore[type-arg]
        classes = tuple(range(10))

        def __init__(self, root: str, train: bool = True, download: bool = False, transform: Any = None) -> None:
            self.pictures = [Image.fromarray(image) for image in images] if transform is not None else None
            self.tensors = torch.stack([PREPARE(Image.fromarray(image)) for image in images])
            self.labels = [int(label) for label in labels]
            self.transform = transform

        def __len__(self) -> int:
            return len(self.labels)

        def __getitem__(self, index: int) -> tuple[Any, int]:
            if self.pictures is None:
                return self.tensors[index], self.labels[index]
            return self.transform(self.pictures[index]), self.labels[index]

    return Given


def environment(request: dict[str, Any]) -> tuple[SGDEnv, int]:
    """Return an environment and the number of its validation examples."""
    with np.load(request["load"]) as file:
        images, labels = file["images"], file["labels"]
    transform = PREPARE if request["pictures"] else None
    # DACBench looks datasets up by name among the attributes of this module.
    torchvision.datasets.Given = dataset(images, labels)
    n_training = request["updates"] * request["batch_size"]
    sizes = [images[0].size, *[request["width"]] * request["depth"]]

    def network() -> nn.Module:
        layers: list[nn.Module] = [nn.Flatten()]
        for fan_in, fan_out in pairwise(sizes):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(sizes[-1], 10), nn.LogSoftmax(1))

    instance = SGDInstance(
        model=network,
        optimizer_type=torch.optim.AdamW,  # the only one of the environment
        optimizer_params={"weight_decay": 1e-4},
        dataset_path=".",
        dataset_name="Given",
        batch_size=request["batch_size"],
        fraction_of_dataset=1.0,
        train_validation_ratio=(n_training + 0.5) / len(labels),
        seed=0,
    )
    config = SGDBenchmark().config
    config.cutoff = CUTOFF
    config.instance_set = {0: instance}
    config.dataset_config = {"Given": {"train_transform": transform, "test_transform": transform}}
    return SGDEnv(config), len(labels) - n_training


def main() -> None:
    """Answer requests until the input ends."""
    torch.set_num_threads(1)
    env: SGDEnv | None = None
    updates = 0
    for line in sys.stdin:
        request = json.loads(line)
        if "load" in request:
            env, n_validation = environment(request)
            env.reset()
            updates = request["updates"]
            found = (len(env.train_loader), len(env.validation_loader.dataset))
            assert found == (updates, n_validation), found
            answer: dict[str, Any] = {"validation": n_validation}
        else:
            assert env is not None
            env.reset()
            actions = [random.uniform(1e-4, 1e-2) for _ in range(request["steps"])]
            env.step(actions[0])
            wall, cpu = time.perf_counter(), time.process_time()
            for action in actions:
                env.step(action)
            answer = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
