#!/usr/bin/env bash
# torch.compile of PyTorch 2.15.0 on a CPU (Inductor's C++ backend).
#
# A step of SGD with momentum, in place, with a weight decay and a learning rate for each row, and the norm of each row's momentum. Each half compiles. One would
# expect the whole to compile, too, as it runs without `torch.compile`. Instead Inductor ends in `KeyError: 'buf2'`, a name that
# no user has given. The cause, from Inductor's source: it wants to keep the new momentum in a local buffer and asks all users of
# the momentum how they read it. The node that writes the parameters in place is one of them, because the momentum must be
# computed from the old parameters first; but it reads nothing of it. Returning the momentum as a further result helps, because
# then it cannot be a local buffer.
#
# Seen:
#   step: compiled
#   norm: compiled
#   step and norm: InductorError: KeyError: 'buf2'
#   step and norm, momentum returned: compiled
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if [ -n "${FINDINGS_PYTHON:-}" ]; then
  python=$FINDINGS_PYTHON
else
  python3 -m venv "$folder/env"
  python=$folder/env/bin/python
  "$python" -m pip install --quiet torch==2.15.0 numpy
fi
"$python" -c "import sys, torch; sys.exit(0 if torch.__version__.split('+')[0] == '2.15.0' else 2)" \
  || { echo "needs torch 2.15.0"; exit 2; }
command -v "${CXX:-g++}" > /dev/null || { echo "needs a C++ compiler"; exit 2; }

seen=$(TORCHINDUCTOR_CACHE_DIR="$folder/inductor" "$python" - 2> /dev/null <<'PYTHON'
import torch

torch.set_num_threads(1)
ROWS, SIZE = 16, 1024


def step(parameters, momentum, gradients, decay, rates):
    momentum.mul_(0.9).add_(gradients - decay * parameters)
    parameters.addcmul_(momentum, rates)


def norm(parameters, momentum, gradients, decay, rates):
    return (momentum * momentum).sum(1)


def step_and_norm(parameters, momentum, gradients, decay, rates):
    step(parameters, momentum, gradients, decay, rates)
    return norm(parameters, momentum, gradients, decay, rates)


def step_and_norm_and_momentum(parameters, momentum, gradients, decay, rates):
    return step_and_norm(parameters, momentum, gradients, decay, rates), momentum.clone()


for name, function in {
    "step": step,
    "norm": norm,
    "step and norm": step_and_norm,
    "step and norm, momentum returned": step_and_norm_and_momentum,
}.items():
    try:
        tensors = [torch.ones(ROWS, SIZE) for _ in range(3)]
        torch.compile(function, fullgraph=True)(*tensors, *torch.full((2, ROWS, 1), -0.1))
        print(f"{name}: compiled")
    except Exception as error:
        print(f"{name}: {type(error).__name__}: {str(error).splitlines()[0]}")
PYTHON
)
echo "$seen"
[ "$seen" = "step: compiled
norm: compiled
step and norm: InductorError: KeyError: 'buf2'
step and norm, momentum returned: compiled" ] || { echo "changed"; exit 1; }
