#!/usr/bin/env bash
# torch.fx of PyTorch 2.15.0.
#
# `Graph.placeholder(name)` adds an argument to a graph. If a node of the graph has that name already, FX gives the new node
# another one, as for any node. One would expect `forward` to take the arguments in order all the same. It takes them under the
# names that were asked for, and then assigns each to the name of its node, one statement after another. So an argument whose name
# is the node name of an earlier one is overwritten before it is read: `a - b` becomes `a - a`, without an error or a warning.
# `graph.lint()` finds nothing.
#
# Seen:
#   lint: fine
#   interpreter: -1
#   forward: 0
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

seen=$("$python" - <<'PYTHON'
import operator

import torch
from torch import fx

graph = fx.Graph()
old = graph.create_node("get_attr", "value", name="x_1")  # takes the name x_1, as a constant may
first = graph.placeholder("x_1")  # its node is named x_2
graph.erase_node(old)
second = graph.placeholder("x_2")  # its node is named x_3
graph.output(graph.call_function(operator.sub, (first, second)))
graph.lint()
print("lint: fine")
module = fx.GraphModule({}, graph)
print("interpreter:", fx.Interpreter(module).run(1, 2))
print("forward:", module(1, 2))
PYTHON
)
echo "$seen"
[ "$seen" = "lint: fine
interpreter: -1
forward: 0" ] || { echo "changed"; exit 1; }
