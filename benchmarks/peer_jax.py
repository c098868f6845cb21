"""Train populations in JAX, as a worker process of `peers.py`. It imports only JAX, NumPy and the standard library.

The worker reads requests from its standard input, one JSON object per line. It answers each with one line of JSON:

- `{"load": FILE, "spec": {...}}` reads weights, data and batches from an .npz file and compiles one decision interval.
  The answer has `losses`, shape (updates, runs), of the first decision interval, `compile_s`, and `chunk`.
- `{"decisions": N}` trains the initial networks for N decision intervals. The answer has `wall` and `cpu`, in seconds.

One decision interval is one call of a compiled function: `vmap` over the runs, `lax.scan` over the updates, donated
buffers for the weights and the state of the optimizer. The batch is gathered inside the scan. The losses come back to
Python after each decision interval, as in the engine, because a scheduler may read them.

Large populations are divided into chunks that fit the processor's cache. The worker measures several sizes of chunks
and takes the fastest.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

Weights = dict[str, Array]
Network = Callable[[Weights, Array], Array]
"""(weights of one run by their names in PyTorch, inputs (B, ...)) -> logits (B, ..., outputs)."""


def linear(weights: Weights, name: str, inputs: Array) -> Array:
    """Apply a linear layer of PyTorch, with its bias if it has one."""
    outputs = inputs @ weights[f"{name}.weight"].T
    return outputs + weights[f"{name}.bias"] if f"{name}.bias" in weights else outputs


def mlp(model: Mapping[str, Any]) -> Network:
    """Return a multilayer perceptron with ReLU."""

    def network(weights: Weights, inputs: Array) -> Array:
        hidden = inputs.reshape(len(inputs), -1)
        for index in range(model["depth"]):
            hidden = jax.nn.relu(linear(weights, f"hidden.{index}", hidden))
        return linear(weights, "output", hidden)

    return network


def cnn(model: Mapping[str, Any]) -> Network:
    """Return a stack of 3x3 convolutions with GroupNorm, ReLU and mean pooling.

    A convolution is a product with the nine shifted images, as in the engine. XLA's own convolution, which `vmap` turns
    into a grouped one, takes four times as long on a CPU.
    """
    depth, groups = model["depth"], model.get("groups", 4)
    pools = {(depth + 2) // 3 - 1, (2 * depth + 2) // 3 - 1} - {depth - 1}

    def convolution(weight: Array, images: Array) -> Array:
        channels, batch, height, width = images.shape
        padded = jnp.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
        shifted = [padded[..., y : y + height, x : x + width] for y in range(3) for x in range(3)]
        columns = jnp.stack(shifted, 1).reshape(channels * 9, -1)
        return (weight.reshape(len(weight), -1) @ columns).reshape(-1, batch, height, width)

    def norm(weights: Weights, name: str, images: Array) -> Array:
        _, batch, height, width = images.shape
        grouped = images.reshape(groups, -1, batch, height, width)
        mean = grouped.mean((1, 3, 4), keepdims=True)
        variance = jnp.square(grouped - mean).mean((1, 3, 4), keepdims=True)
        normal = ((grouped - mean) * lax.rsqrt(variance + 1e-5)).reshape(images.shape)
        return normal * weights[f"{name}.weight"][:, None, None, None] + weights[f"{name}.bias"][:, None, None, None]

    def network(weights: Weights, inputs: Array) -> Array:
        hidden = inputs.swapaxes(0, 1)  # channels first: each convolution is one product for the whole batch
        for index in range(depth):
            hidden = convolution(weights[f"convolutions.{index}.weight"], hidden)
            hidden = jax.nn.relu(norm(weights, f"norms.{index}", hidden))
            if index in pools:
                channels, batch, height, width = hidden.shape
                hidden = hidden.reshape(channels, batch, height // 2, 2, width // 2, 2).mean((3, 5))
        return linear(weights, "output", hidden.mean((-2, -1)).T)

    return network


def layer_norm(weights: Weights, name: str, inputs: Array) -> Array:
    """Apply a LayerNorm of PyTorch."""
    mean = inputs.mean(-1, keepdims=True)
    variance = jnp.square(inputs - mean).mean(-1, keepdims=True)
    return (inputs - mean) * lax.rsqrt(variance + 1e-5) * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def transformer(model: Mapping[str, Any]) -> Network:
    """Return a causal pre-LN transformer."""
    heads = model["heads"]

    def attention(weights: Weights, name: str, inputs: Array, causal: Array) -> Array:
        batch, positions, width = inputs.shape
        split = linear(weights, f"{name}.query_key_value", inputs).reshape(batch, positions, 3, heads, -1)
        query, key, value = split.transpose(2, 0, 3, 1, 4)
        scores = query @ key.swapaxes(-2, -1) * (width // heads) ** -0.5
        mixed = jax.nn.softmax(jnp.where(causal, scores, -jnp.inf)) @ value
        return linear(weights, f"{name}.projection", mixed.swapaxes(1, 2).reshape(inputs.shape))

    def network(weights: Weights, inputs: Array) -> Array:
        hidden = weights["tokens.weight"][inputs] + weights["positions"]
        causal = jnp.tril(jnp.ones((inputs.shape[1],) * 2, bool))
        for index in range(model["depth"]):
            name = f"blocks.{index}"
            hidden = hidden + attention(weights, name, layer_norm(weights, f"{name}.attention_norm", hidden), causal)
            wide = linear(weights, f"{name}.expand", layer_norm(weights, f"{name}.feed_forward_norm", hidden))
            hidden = hidden + linear(weights, f"{name}.contract", jax.nn.gelu(wide, approximate=False))
        return linear(weights, "output", layer_norm(weights, "norm", hidden))

    return network


def lstm(model: Mapping[str, Any]) -> Network:
    """Return a stacked LSTM with one bias.

    The products of the inputs with their weights are one product for all positions, before the scan over positions.
    Unrolling this scan is slower.
    """

    def layer(weights: Weights, name: str, inputs: Array) -> Array:
        positions, width, batch = inputs.shape
        of_inputs, of_state = jnp.split(weights[f"{name}.weight"], 2, axis=1)
        side_by_side = of_inputs @ inputs.swapaxes(0, 1).reshape(width, -1) + weights[f"{name}.bias"]

        def position(state: tuple[Array, Array], from_input: Array) -> tuple[tuple[Array, Array], Array]:
            hidden, cell = state
            take, keep, show, candidate = jnp.split(of_state @ hidden + from_input, 4)
            cell = jax.nn.sigmoid(keep) * cell + jax.nn.sigmoid(take) * jnp.tanh(candidate)
            hidden = jax.nn.sigmoid(show) * jnp.tanh(cell)
            return (hidden, cell), hidden

        start = jnp.zeros((width, batch))
        return lax.scan(position, (start, start), side_by_side.reshape(-1, positions, batch).swapaxes(0, 1))[1]

    def network(weights: Weights, inputs: Array) -> Array:
        hidden = weights["tokens.weight"][inputs.T].swapaxes(1, 2)  # (positions, width, batch)
        for index in range(model["depth"]):
            hidden = layer(weights, f"stack.{index}", hidden)
        return linear(weights, "output", hidden.transpose(2, 0, 1))

    return network


FAMILIES = {"mlp": mlp, "cnn": cnn, "transformer": transformer, "lstm": lstm}


Arrays = Mapping[str, np.ndarray[Any, Any]]
State = tuple[Any, ...]
"""Weights, moments of the optimizer, number of updates."""


class Population:
    """Networks in training, `chunk` of them in each call.

    Args:
        arrays: `inputs` and `targets`, or `tokens`; `order`, shape (updates, seeds, B); `seed` (runs,): the index of
            each run's seed; `lr` (updates of a decision interval, runs, layers); `weight_decay` (runs,); the initial
            weights `weights/NAME`, shape (runs, ...).
        spec: `model`, `optimizer`, `layer` (name of a weight -> index of its layer), `updates` of a decision interval,
            and for tokens `length`.
        chunk: Number of runs that are computed together.
    """

    def __init__(self, arrays: Arrays, spec: Mapping[str, Any], chunk: int) -> None:
        self.chunk = chunk
        values = {
            name: jnp.asarray(array, jnp.int32 if array.dtype.kind == "i" else jnp.float32)
            for name, array in arrays.items()
        }
        data = {name: values[name] for name in ("inputs", "targets", "tokens") if name in values}
        order, updates = values["order"], spec["updates"]
        self._orders = [order[first : first + updates] for first in range(0, len(order) - updates + 1, updates)]
        self._moments = 1 if spec["optimizer"]["name"] == "sgd" else 2
        self._initial = []
        self._controls = []
        for first in range(0, len(values["seed"]), chunk):
            runs = slice(first, first + chunk)
            weights = {name.removeprefix("weights/"): rows[runs] for name, rows in values.items() if "/" in name}
            self._initial.append(weights)
            self._controls.append((values["lr"][:, runs], values["weight_decay"][runs], values["seed"][runs]))
        start = time.perf_counter()
        function = jax.jit(decision_interval(spec), donate_argnums=0)
        self._compiled = function.lower(self.start()[0], data, self._orders[0], *self._controls[0]).compile()
        self.compile_s = time.perf_counter() - start
        self._data = data

    def start(self) -> list[State]:
        """Return the state of each chunk before the first update."""
        states = [
            (
                jax.tree.map(jnp.copy, weights),
                *(jax.tree.map(jnp.zeros_like, weights) for _ in range(self._moments)),
                jnp.zeros(()),
            )
            for weights in self._initial
        ]
        return jax.block_until_ready(states)

    def train(self, states: list[State], n_decisions: int) -> np.ndarray[Any, Any]:
        """Train for some decision intervals and return the losses of the last, shape (updates, runs)."""
        losses: Sequence[np.ndarray[Any, Any]] = ()
        for order in self._orders[:n_decisions]:
            parts = []
            for index, controls in enumerate(self._controls):
                states[index], part = self._compiled(states[index], self._data, order, *controls)
                parts.append(part)
            losses = [np.asarray(part) for part in parts]
        jax.block_until_ready(states)
        return np.concatenate(losses, axis=1)

    def seconds(self, n_decisions: int) -> dict[str, float]:
        """Return the wall and CPU time of a training."""
        states = self.start()
        wall, cpu = time.perf_counter(), time.process_time()
        self.train(states, n_decisions)
        return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def decision_interval(spec: Mapping[str, Any]) -> Callable[..., tuple[State, Array]]:
    """Return a function that makes the updates of a decision interval.

    It takes the state, the data, the order of these updates, learning rates, weight decays and seeds, and returns the
    new state and the losses.
    """
    network = FAMILIES[spec["model"]["family"]](spec["model"])
    step = {"sgd": sgd, "adamw": adamw}[spec["optimizer"]["name"]](spec)

    def loss(weights: Weights, inputs: Array, targets: Array) -> Array:
        return -jnp.take_along_axis(jax.nn.log_softmax(network(weights, inputs)), targets[..., None], -1).mean()

    gradients = jax.vmap(jax.value_and_grad(loss))

    def batch(data: dict[str, Array], index: Array) -> tuple[Array, Array]:
        if "tokens" in data:
            windows = data["tokens"][index[..., None] + jnp.arange(spec["length"] + 1)]
            return windows[..., :-1], windows[..., 1:]
        return data["inputs"][index], data["targets"][index]

    def interval(
        state: State, data: dict[str, Array], order: Array, lr: Array, weight_decay: Array, seed: Array
    ) -> tuple[State, Array]:
        def update(state: State, now: tuple[Array, Array]) -> tuple[State, Array]:
            index, rates = now
            inputs, targets = batch(data, index)  # of each seed
            losses, grads = gradients(state[0], inputs[seed], targets[seed])
            return step(state, grads, rates, weight_decay), losses

        return lax.scan(update, state, (order, lr))

    return interval


Step = Callable[[State, Weights, Array, Array], State]
"""(state, gradients, learning rates (runs, layers), weight decays (runs,)) -> new state."""


def per_run(values: Array, like: Array) -> Array:
    """Return values of runs, shape (runs,), in the shape (runs, 1, ...) that broadcasts against a weight."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def sgd(spec: Mapping[str, Any]) -> Step:
    """Return SGD with momentum and an L2 penalty."""
    layer, factor = spec["layer"], spec["optimizer"]["momentum"]

    def step(state: State, grads: Weights, rates: Array, weight_decay: Array) -> State:
        weights, momentum, count = state
        new_weights, new_momentum = {}, {}
        for name, grad in grads.items():
            weight = weights[name]
            new_momentum[name] = factor * momentum[name] + grad + per_run(weight_decay, grad) * weight
            new_weights[name] = weight - per_run(rates[:, layer[name]], grad) * new_momentum[name]
        return new_weights, new_momentum, count + 1

    return step


def adamw(spec: Mapping[str, Any]) -> Step:
    """Return AdamW, whose weight decay is multiplied by the learning rate alone."""
    layer, (beta1, beta2), eps = spec["layer"], spec["optimizer"]["betas"], spec["optimizer"]["eps"]

    def step(state: State, grads: Weights, rates: Array, weight_decay: Array) -> State:
        weights, first, second, count = state
        count = count + 1
        unbiased1, unbiased2 = 1 - beta1**count, jnp.sqrt(1 - beta2**count)
        new_weights, new_first, new_second = {}, {}, {}
        for name, grad in grads.items():
            weight = weights[name]
            new_first[name] = beta1 * first[name] + (1 - beta1) * grad
            new_second[name] = beta2 * second[name] + (1 - beta2) * grad * grad
            direction = new_first[name] / (jnp.sqrt(new_second[name]) / unbiased2 + eps) / unbiased1
            direction += per_run(weight_decay, grad) * weight
            new_weights[name] = weight - per_run(rates[:, layer[name]], grad) * direction
        return new_weights, new_first, new_second, count

    return step


def fastest(arrays: Arrays, spec: Mapping[str, Any]) -> Population:
    """Return the population whose size of chunks is the fastest, in CPU time, of all powers of 2 from 2 on."""
    n_runs = len(arrays["seed"])
    best: tuple[float, Population] | None = None
    chunk = n_runs
    while chunk >= 2 and n_runs % chunk == 0:
        population = Population(arrays, spec, chunk)
        seconds = min(population.seconds(2)["cpu"] for _ in range(4))
        if best is None or seconds < best[0]:
            best = (seconds, population)
        chunk //= 2
    assert best is not None
    return best[1]


def main() -> None:
    """Answer requests until the input ends."""
    population: Population | None = None
    for line in sys.stdin:
        request = json.loads(line)
        if "load" in request:
            with np.load(request["load"]) as file:
                population = fastest(dict(file), request["spec"])
            losses = population.train(population.start(), 1).tolist()
            answer = {"losses": losses, "compile_s": population.compile_s, "chunk": population.chunk}
        else:
            assert population is not None
            answer = population.seconds(request["decisions"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
