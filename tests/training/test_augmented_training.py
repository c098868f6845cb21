"""Augmented training: the images of a run depend on its seed alone, and evaluation is not augmented."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from ganno_bench.core.seeding import stream_seed
from ganno_bench.schedulers.drive import Contestant, drive
from ganno_bench.schedulers.registry import load_scheduler
from ganno_bench.training.population import Engine
from ganno_bench.training.signals import Controls
from ganno_bench.workloads.suite import AugmentationSpec
from ganno_bench.workloads.workload import Workload
from tests.helpers.torch_loop import TorchRun, layer_vectors, parameters
from tests.helpers.workload_cases import make_engine, make_workload

BLACK = (-1.5, -0.75)
CROP = 2
BOTH = AugmentationSpec(flip=True, crop=CROP)
UPDATES = 6
BATCH = 7

every_backend = pytest.mark.parametrize("backend", ["vmap", "loop", "compiled"])


def workload(augmentation: AugmentationSpec | None = BOTH, model: str = "mlp") -> Workload:
    work = make_workload(model, n_updates=UPDATES, batch_size=BATCH)
    spec = work.spec.model_copy(update={"augmentation": augmentation})
    return replace(work, spec=spec, dataset=replace(work.dataset, black=BLACK))


def lr(engine: Engine, n_runs: int, value: float = 0.02) -> Tensor:
    return torch.full((n_runs, engine.layout.n_layers), value, dtype=torch.float64)


Batches = list[tuple[Tensor, Tensor]]
"""Inputs and targets of each call of a backend, shapes (P, B, ...)."""


@pytest.fixture
def spied(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Engine, Batches]]:
    """Makes an engine, and records every batch that its backend trains on."""

    def make(work: Workload, backend: str = "loop", dtype: torch.dtype = torch.float32) -> tuple[Engine, Batches]:
        engine = make_engine(work, backend, dtype)
        seen: Batches = []
        bind = type(engine.backend).bind

        def spying(*of_all_runs: Any) -> Callable[[Tensor, Tensor], Tensor]:
            compute = bind(engine.backend, *of_all_runs)

            def spy(inputs: Tensor, targets: Tensor) -> Tensor:
                seen.append((inputs.clone(), targets.clone()))
                return compute(inputs, targets)

            return spy

        monkeypatch.setattr(engine.backend, "bind", spying)
        return engine, seen

    return make


def seen_by(
    spied: Callable[..., tuple[Engine, Batches]], seeds: Sequence[int], run: int, backend: str, chunk: int = 64
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the batches of a run, shapes (n_updates, B, ...), and its final parameters."""
    engine, seen = spied(workload(), backend)
    engine.chunk = chunk
    population = engine.population(seeds)
    population.advance(Controls(lr(engine, len(seeds))), UPDATES)
    size = population._chunks[0].n_runs
    batches = seen[run // size * UPDATES :][:UPDATES]
    inputs, targets = (torch.stack([batch[part][run % size] for batch in batches]) for part in (0, 1))
    return inputs, targets, parameters(population)[run]


class TorchvisionSplit:
    """A split whose batches torchvision augments, image by image, with the random numbers of the run."""

    def __init__(self, run: TorchRun, seed: int) -> None:
        generator = torch.Generator().manual_seed(stream_seed(seed, "augmentation"))
        shifts = 2 * CROP + 1
        self.views = iter(torch.randint(2 * shifts**2, (UPDATES, BATCH), generator=generator))
        self.shifts = shifts
        self.split = run.train

    def gather(self, index: Tensor) -> tuple[Tensor, Tensor]:
        inputs, targets = self.split.gather(index)
        changed = []
        for image, view in zip(inputs, next(self.views).tolist(), strict=True):
            flip, shift = divmod(view, self.shifts**2)
            image = tv.horizontal_flip(image) if flip else image
            black = torch.tensor(BLACK, dtype=image.dtype)[:, None, None]
            padded = tv.pad(image - black, [CROP]) + black
            changed.append(tv.crop(padded, *divmod(shift, self.shifts), *image.shape[1:]))
        return torch.stack(changed), targets


@every_backend
@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_it_is_a_torch_loop_over_torchvisions_images(backend: str, model: str) -> None:
    work = workload(model=model)
    engine = make_engine(work, backend, torch.float64)
    seeds = [3, 4, 3, 5]
    population = engine.population(seeds)
    rates = lr(engine, len(seeds))
    population.advance(Controls(rates), 2)
    population.advance(Controls(rates), UPDATES - 2)
    for row, seed in enumerate(seeds):
        run = TorchRun(work, seed, 0.0, torch.float64)
        run.train = TorchvisionSplit(run, seed)  # type: ignore[assignment]
        for _ in range(UPDATES):
            run.update(rates[row])
        for got, expected in zip(layer_vectors(engine, parameters(population)[row]), run.parameters(), strict=True):
            assert torch.allclose(got, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("backend", ["vmap", "loop"])  # `compiled` gathers its batches in its code
def test_images_do_not_depend_on_size_place_neighbours_or_chunks(
    spied: Callable[..., tuple[Engine, Batches]], backend: str
) -> None:
    alone = seen_by(spied, [11], 0, backend)
    for seeds, run, chunk in (
        ([11, 11], 1, 64),
        ([1, 2, 11], 2, 64),
        ([1, 11, 2, 11, 3, 4, 5, 6], 3, 64),
        ([1, 2, 3, 11, 4], 3, 2),
    ):
        for got, expected in zip(seen_by(spied, seeds, run, backend, chunk), alone, strict=True):
            assert torch.equal(got, expected)


def test_images_do_not_depend_on_the_backend(spied: Callable[..., tuple[Engine, Batches]]) -> None:
    vmap, loop = (seen_by(spied, [1, 11], 1, backend) for backend in ("vmap", "loop"))
    assert torch.equal(vmap[0], loop[0])
    assert torch.equal(vmap[1], loop[1])


def test_the_order_of_the_data_stays_and_the_images_change(spied: Callable[..., tuple[Engine, Batches]]) -> None:
    seen: dict[bool, Batches] = {}
    for augmented in (False, True):
        engine, seen[augmented] = spied(workload(BOTH if augmented else None))
        engine.population([1, 2]).advance(Controls(lr(engine, 2)), UPDATES)
    for (plain, targets), (changed, same_targets) in zip(seen[False], seen[True], strict=True):
        assert torch.equal(targets, same_targets)
        assert not torch.equal(plain, changed)


def test_each_seed_changes_the_same_images_in_its_own_way() -> None:
    chunk = make_engine(workload(), "loop").population([1, 2, 1])._chunks[0]
    assert chunk.batches.views.shape == (UPDATES, 2, BATCH)  # drawn once for each seed
    assert not torch.equal(chunk.batches.views[:, 0], chunk.batches.views[:, 1])


def test_every_scheduler_gets_the_same_images(spied: Callable[..., tuple[Engine, Batches]]) -> None:
    seen: dict[str, Batches] = {}
    final = {}
    for name in ("constant", "cosine", "linear"):
        engine, seen[name] = spied(workload())
        contestants = [Contestant(load_scheduler(name).build({}), base_lr, 0.0) for base_lr in (0.01, 0.03)]
        final[name] = parameters(drive(engine, contestants, [7, 8]).population)
    assert not torch.equal(final["constant"], final["cosine"])
    for other in ("cosine", "linear"):
        assert len(seen[other]) == len(seen["constant"]) == UPDATES
        for (inputs, _), (expected, _) in zip(seen[other], seen["constant"], strict=True):
            assert torch.equal(inputs, expected)
    for inputs, _ in seen["constant"]:  # and so does every configuration
        assert torch.equal(inputs[:2], inputs[2:])


@every_backend
def test_a_saved_population_continues_with_the_images_that_were_to_come(backend: str) -> None:
    engine = make_engine(workload(), backend)
    rates = lr(engine, 3)
    whole, stopped = engine.population([1, 2, 1]), engine.population([1, 2, 1])
    whole.advance(Controls(rates), UPDATES)
    stopped.advance(Controls(rates), 2)
    state = stopped.state_dict()
    continued = engine.population([1, 2, 1])
    continued.load_state_dict(state)
    continued.advance(Controls(rates), UPDATES - 2)
    assert torch.equal(parameters(continued), parameters(whole))


@every_backend
def test_evaluation_sees_images_as_they_are(backend: str) -> None:
    plain, augmented = (make_engine(workload(spec), backend) for spec in (None, BOTH))
    populations = [engine.population([1, 2], needs=["val_loss"]) for engine in (plain, augmented)]
    still = Controls(lr(plain, 2, 0.0))
    expected, got = (population.advance(still, UPDATES) for population in populations)
    assert (got.train_loss != expected.train_loss).all()
    assert got.val_loss is not None
    assert expected.val_loss is not None
    assert torch.equal(got.val_loss, expected.val_loss)
    test = plain.workload.dataset.test.to("cpu", torch.float32)
    assert torch.equal(populations[0].evaluate(test).loss, populations[1].evaluate(test).loss)


def test_nothing_more_is_recorded() -> None:
    engine = make_engine(workload(None), "vmap")
    engine.population([1, 2]).advance(Controls(lr(engine, 2)), UPDATES)
    before = dict(engine.backend._recorded)  # type: ignore[attr-defined]
    augmented = make_engine(workload(), "vmap")
    augmented.population([1, 2]).advance(Controls(lr(engine, 2)), UPDATES)
    assert augmented.backend._recorded == before  # type: ignore[attr-defined]
