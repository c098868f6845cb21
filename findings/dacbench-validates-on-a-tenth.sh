#!/usr/bin/env bash
# DACBench 0.5.6, its SGD environment, in which an agent chooses learning rates.
#
# Its documentation says that the model is evaluated after every epoch, and in the environment's default mode a step is an epoch. So
# one would expect the validation loss that the agent observes after each step to be a mean over the whole validation split. It is a
# mean over a tenth of it, after every step but the last of an episode: the environment asks whether an epoch has ended, but divides
# the length of the episode in place of the number of steps so far. Only if the length of an episode happens to be a multiple of the
# batches of an epoch, every step evaluates the whole split. So the same training run has other observations if an episode is allowed
# to be one step longer, and observations of different instances have different noise.
#
# Seen (4 batches in an epoch, 160 validation examples, batches of 8):
#   episodes of 7 steps: validation examples per step [16, 16, 16, 16, 16, 16, 160]
#   episodes of 8 steps: validation examples per step [160, 160, 160, 160, 160, 160, 160, 160]
#   first validation loss differs between the two: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if [ -n "${FINDINGS_PYTHON:-}" ]; then
  python=$FINDINGS_PYTHON
else
  python3 -m venv "$folder/env"
  python=$folder/env/bin/python
  "$python" -m pip install --quiet torch==2.15.0 torchvision==0.29.2 matplotlib pandas scipy more_itertools pyyaml
  "$python" -m pip install --quiet --no-deps dacbench==0.5.6 ConfigSpace==1.2.2 Farama-Notifications==0.0.6 gymnasium==1.4.0 \
    ioh==0.4.2 seaborn==0.13.2
fi
"$python" -c "import sys; from importlib.metadata import version; sys.exit(0 if version('dacbench') == '0.5.6' else 2)" \
  || { echo "needs dacbench 0.5.6"; exit 2; }

cd "$folder"
seen=$("$python" - 2>/dev/null <<'PYTHON'
import warnings

warnings.filterwarnings("ignore")
import torch
import torchvision
from dacbench.benchmarks import SGDBenchmark
from dacbench.envs import SGDEnv, SGDInstance
from torch import nn

torch.manual_seed(0)
IMAGES, LABELS = torch.rand(192, 1, 8, 8), torch.arange(192) % 10


class Evaluated(nn.Module):
    """A linear classifier that counts the examples it sees in evaluation mode."""

    seen = 0

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.linear = nn.Linear(64, 10)

    def forward(self, inputs):
        if not self.training:
            Evaluated.seen += len(inputs)
        return nn.functional.log_softmax(self.linear(inputs.flatten(1)), 1)


class Digits(torch.utils.data.Dataset):
    """Random pictures with the interface of a dataset of torchvision."""

    classes = tuple(range(10))

    def __init__(self, root, train=True, download=False, transform=None):
        self.part = slice(0, 192) if train else slice(0, 8)

    def __len__(self):
        return len(LABELS[self.part])

    def __getitem__(self, index):
        return IMAGES[self.part][index], int(LABELS[self.part][index])


torchvision.datasets.Digits = Digits


def episode(cutoff):
    """Return the validation examples of each step, and the first validation loss."""
    config = SGDBenchmark().config
    config.cutoff = cutoff
    config.instance_set = {
        0: SGDInstance(
            model=Evaluated,
            optimizer_type=torch.optim.AdamW,
            optimizer_params={"weight_decay": 0.0},
            dataset_path=".",
            dataset_name="Digits",
            batch_size=8,
            fraction_of_dataset=1.0,
            train_validation_ratio=32.5 / 192,
            seed=0,
        )
    }
    config.dataset_config = {"Digits": {"train_transform": None, "test_transform": None}}
    env = SGDEnv(config)
    env.reset()
    assert (len(env.train_loader), len(env.validation_loader.dataset)) == (4, 160)
    counts, losses = [], []
    for step in range(cutoff):
        Evaluated.seen = 0
        state, *_ = env.step(0.01)
        counts.append(Evaluated.seen - (8 if step == cutoff - 1 else 0))  # the last step also sees the test split
        losses.append(float(state["validation_loss"]))
    return counts, losses[0]


(seven, first_of_seven), (eight, first_of_eight) = episode(7), episode(8)
print("episodes of 7 steps: validation examples per step", seven)
print("episodes of 8 steps: validation examples per step", eight)
print("first validation loss differs between the two:", first_of_seven != first_of_eight)
PYTHON
)
echo "$seen"
[ "$seen" = "episodes of 7 steps: validation examples per step [16, 16, 16, 16, 16, 16, 160]
episodes of 8 steps: validation examples per step [160, 160, 160, 160, 160, 160, 160, 160]
first validation loss differs between the two: True" ] || { echo "changed"; exit 1; }
