"""A policy sets the learning rates of a plain PyTorch loop: python examples/ganno_in_your_loop.py [POLICY]."""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn

from ganno_bench import GannoScheduler, layer_groups

images, labels = (torch.as_tensor(array) for array in load_digits(return_X_y=True))
images = ((images - images.mean()) / images.std()).float()
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10))
optimizer = torch.optim.SGD(layer_groups(net), lr=0.01, momentum=0.9)
policy = sys.argv[1] if len(sys.argv) > 1 else "ganno-anchored"
scheduler = GannoScheduler(optimizer, total_updates=300, policy=policy)

for update in range(300):
    chosen = torch.randint(1500, (64,))
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(net(images[chosen]), labels[chosen])
    loss.backward()
    optimizer.step()
    scheduler.step(loss)  # after optimizer.step(), before the gradients are cleared
    if update % 60 == 59:
        print(f"{update + 1} updates, loss {loss:.3f}, learning rates", [f"{lr:.2g}" for lr in scheduler.get_last_lr()])
print(f"held-out accuracy {(net(images[1500:]).argmax(1) == labels[1500:]).float().mean():.3f}")
