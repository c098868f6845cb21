"""In a user's loop, a policy decides as in the harness, resumes exactly, and reports what is wrong."""

from __future__ import annotations

import copy
import io
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ganno_bench import GannoScheduler, layer_groups
from ganno_bench.core.errors import ConfigError, VersionError
from ganno_bench.integrations import layer_signals, torch_loop
from ganno_bench.marl.env import DEFAULT_OBSERVATION
from ganno_bench.policies.actions import ActionSpec
from ganno_bench.policies.actor import ActorSpec
from ganno_bench.policies.observations import Array, load_feature
from ganno_bench.policies.policy import Policy, PolicyCard, load_policy
from ganno_bench.schedulers.drive import Contestant, drive
from ganno_bench.schedulers.policy import policy_scheduler
from ganno_bench.training import layout
from ganno_bench.workloads.suite import OptimizerSpec
from tests.helpers.plain_loop import Loop, Net
from tests.helpers.torch_loop import TorchRun
from tests.helpers.workload_cases import ADAMW, NESTEROV, SGD, make_engine, make_workload

N_UPDATES = 32
BLIND = tuple(name for name in DEFAULT_OBSERVATION if not load_feature(name).needs)  # sees no layer's gradients


@pytest.fixture(params=["absolute", "anchored", "global", "recurrent", "decay", "blind", "light", "light-log-scale"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    torch.manual_seed(11)
    action = {
        "absolute": ActionSpec(),
        "anchored": ActionSpec(reference="cosine", bound=2.0),
        "global": ActionSpec(scope="network"),
        "recurrent": ActionSpec(),
        "decay": ActionSpec(decay_multipliers=(0.2, 1.0, 5.0)),
        "blind": ActionSpec(),
        "light": ActionSpec(scope="network"),
        "light-log-scale": ActionSpec(scope="network", max_step=0.5, bound=1.5, reference="cosine"),
    }[request.param]
    blind = request.param.startswith(("blind", "light"))
    observation = BLIND if blind else DEFAULT_OBSERVATION
    actor = ActorSpec(memory=6 if request.param == "recurrent" else 0)
    policy = Policy(PolicyCard(name="some", observation=observation, action=action, actor=actor, interval=5))
    with torch.no_grad():
        policy.actor.head.weight *= 300.0  # decisions that depend on what is seen
    policy.save(tmp_path / "some")
    return tmp_path / "some"


@pytest.mark.parametrize(
    ("family", "optimizer", "base_lr"),
    [
        ("mlp", SGD, 0.02),
        ("mlp", NESTEROV, 0.02),
        ("mlp", OptimizerSpec(name="sgd", momentum=0.0), 0.02),
        ("cnn", ADAMW, 2e-3),
        ("decoder", ADAMW, 2e-3),
        ("encoder", SGD, 0.05),
    ],
)
def test_the_decisions_are_those_of_the_harness(
    folder: Path, family: str, optimizer: OptimizerSpec, base_lr: float
) -> None:
    check_decisions(folder, family, optimizer, base_lr)


def check_decisions(folder: Path, family: str, optimizer: OptimizerSpec, base_lr: float) -> None:
    """Train a network in a plain loop and in the harness, and compare the learning rates."""
    workload = make_workload(family, optimizer=optimizer, n_updates=N_UPDATES)
    engine = make_engine(workload, "loop", torch.float64)
    result = drive(engine, [Contestant(policy_scheduler(str(folder))(), base_lr, 1e-3)], [7])
    expected = dict(zip(result.trace_updates, result.lr_trace[:, 0], strict=True))
    run = TorchRun(workload, 7, 1e-3, torch.float64)
    for group in run.optimizer.param_groups:
        group["lr"] = base_lr
    scheduler = GannoScheduler(run.optimizer, N_UPDATES, folder, max_lr=1e9)  # the harness has no limit
    seen = set()
    for update in range(N_UPDATES):
        lr = torch.tensor(scheduler.get_last_lr(), dtype=torch.float64)
        if update in expected:
            torch.testing.assert_close(lr, expected[update], rtol=1e-9, atol=0.0)
            seen.add(tuple(lr.tolist()))
        scheduler.step(run.update(lr))
    assert len(seen) > 3


def test_so_are_they_where_gradients_are_sampled(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("WHOLE", 60), ("SAMPLE", 60), ("BLOCK", 4)):
        monkeypatch.setattr(layout, name, value)
    monkeypatch.setattr(layer_signals, "CELL", 7)  # several for a layer, and some that are not full
    check_decisions(folder, "mlp", SGD, 0.02)


@pytest.mark.parametrize("stop", [0, 1, 4, 5, 9, 13, 22])
def test_it_resumes_exactly_at_any_update(folder: Path, stop: int) -> None:
    whole = Loop(folder)
    rates = [whole.update(index) for index in range(23)]
    first, second = Loop(folder), Loop(folder)
    for index in range(stop):
        first.update(index)
    file = io.BytesIO()
    parts = {"net": first.net, "optimizer": first.optimizer, "scheduler": first.scheduler}
    torch.save({name: part.state_dict() for name, part in parts.items()}, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    second.net.load_state_dict(state["net"])
    second.optimizer.load_state_dict(state["optimizer"])
    second.scheduler.load_state_dict(state["scheduler"])
    assert [second.update(index) for index in range(stop, 23)] == rates[stop:]


def test_after_the_horizon_nothing_changes(folder: Path) -> None:
    loop = Loop(folder)
    for index in range(23):
        loop.update(index)
    after = loop.scheduler.get_last_lr()
    with pytest.warns(
        UserWarning, match=r"more often than total_updates says \(23\): .* give GannoScheduler the number"
    ):
        assert loop.update(23) == after
    assert [loop.update(index) for index in range(24, 26)] == [after] * 2  # without another warning, an error in tests


def test_a_skipped_update_is_counted_and_not_measured(folder: Path) -> None:
    loop = Loop(folder)
    loop.update(0)
    for parameter in loop.net.parameters():
        parameter.grad = torch.full_like(parameter, torch.inf)
    loop.scheduler.step(torch.tensor(torch.inf))
    assert loop.scheduler.n_updates == 2
    for index in range(2, 12):
        assert all(0 < rate < 100 for rate in loop.update(index))


def shown(scheduler: GannoScheduler) -> list[Mapping[str, Array]]:
    """Return a list that collects the layer signals at each decision."""
    signals: list[Mapping[str, Array]] = []
    assert scheduler._layers is not None
    measure = scheduler._layers.measure

    def listen(lr: Sequence[float]) -> dict[str, Array]:
        signals.append(measure(lr))
        return signals[-1]

    scheduler._layers.measure = listen  # type: ignore[method-assign]
    return signals


@pytest.mark.parametrize("folder", ["absolute"], indirect=True)
@pytest.mark.parametrize("skipped", [3, 4])
def test_what_a_skipped_update_leaves_of_an_interval(folder: Path, skipped: int) -> None:
    loop, samples = Loop(folder), []
    signals, losses = shown(loop.scheduler), []
    decide = loop.scheduler._decide
    loop.scheduler._decide = lambda loss, val_loss: (losses.append(loss), decide(loss, val_loss))[1]  # type: ignore
    for index in range(5):
        if index != skipped:
            loop.update(index)
            samples.append([parameter.grad.clone() for parameter in loop.net.parameters()])
        else:
            for parameter in loop.net.parameters():
                parameter.grad = torch.full_like(parameter, torch.inf)
            loop.scheduler.step(torch.tensor(1.5))
    (seen,) = signals
    assert np.isfinite(losses).all()
    first = torch.stack([torch.cat([part.flatten() for part in sample[:2]]) for sample in samples])
    expected = first.sum(0).norm() / first.norm(dim=1).sum()
    assert float(seen["grad_snr"][0]) == pytest.approx(float(expected), rel=1e-5)
    for name in ("grad_norm", "grad_cosine", "update_norm"):
        assert (np.isnan if skipped == 4 else np.isfinite)(seen[name]).all()
    assert np.isfinite(seen["param_norm"]).all()


@pytest.mark.parametrize("feature", [name for name in DEFAULT_OBSERVATION if load_feature(name).needs])
def test_what_is_measured_does_not_depend_on_what_else_is(tmp_path: Path, feature: str) -> None:
    still = ActionSpec(bound=1e-9)
    for name, observation in (("one", ("progress", feature)), ("all", DEFAULT_OBSERVATION)):
        Policy(PolicyCard(name=name, observation=observation, action=still, interval=5)).save(tmp_path / name)
    one, whole = Loop(tmp_path / "one"), Loop(tmp_path / "all")
    of_one, of_all = shown(one.scheduler), shown(whole.scheduler)
    for index in range(15):
        one.update(index)
        whole.update(index)
    assert len(of_one) == len(of_all) == 3
    for a, b in zip(of_one, of_all, strict=True):
        for need in load_feature(feature).needs:
            assert np.isfinite(a[need]).all()
            np.testing.assert_allclose(a[need], b[need], rtol=1e-6)
        assert a.keys() == load_feature(feature).needs


def test_a_loss_that_is_overwritten_later_was_taken_in(folder: Path) -> None:
    """A captured CUDA graph overwrites its outputs."""
    plain, overwritten = Loop(folder), Loop(folder)
    step = overwritten.scheduler.step

    def take_and_overwrite(loss: Tensor) -> None:
        step(loss)
        with torch.no_grad():
            loss.fill_(torch.nan)

    overwritten.scheduler.step = take_and_overwrite  # type: ignore[method-assign]
    assert [overwritten.update(index) for index in range(23)] == [plain.update(index) for index in range(23)]


@pytest.mark.parametrize("folder", ["light"], indirect=True)
def test_one_agent_that_looks_at_no_layer_does_without_their_groups(folder: Path) -> None:
    groups, one, shallow = Loop(folder), Loop(folder, n_layers=3), Loop(folder, n_layers=1)
    rates = [groups.update(index)[0] for index in range(23)]
    assert [one.update(index) for index in range(13)] == [[rate] * 2 for rate in rates[:13]]
    resumed = Loop(folder, n_layers=3)
    for name in ("net", "optimizer", "scheduler"):
        getattr(resumed, name).load_state_dict(getattr(one, name).state_dict())
    assert [resumed.update(index) for index in range(13, 23)] == [[rate] * 2 for rate in rates[13:]]
    assert len(set(rates)) > 2
    with pytest.raises(ConfigError, match="the state has 3 layers, this scheduler has 1"):
        shallow.scheduler.load_state_dict(one.scheduler.state_dict())
    assert [shallow.update(index)[0] for index in range(23)] != rates  # it sees how deep the network is


@pytest.mark.parametrize("folder", ["blind"], indirect=True)
def test_what_a_policy_does_not_observe_is_not_looked_at(folder: Path) -> None:
    plain, scrambled = Loop(folder), Loop(folder)
    step = scrambled.scheduler.step

    def scramble_and_take(loss: Tensor) -> None:
        for parameter in scrambled.net.parameters():
            parameter.grad = None
        step(loss)

    scrambled.scheduler.step = scramble_and_take  # type: ignore[method-assign]
    rates = [plain.update(index) for index in range(23)]
    assert [scrambled.update(index) for index in range(23)] == rates
    assert len({tuple(several) for several in rates}) > 2
    assert scrambled.scheduler.state_dict()["layers"] is None


@pytest.mark.parametrize("folder", ["absolute", "global", "recurrent"], indirect=True)
def test_a_state_of_another_network_or_policy_is_refused(folder: Path) -> None:
    loop = Loop(folder)
    state = loop.scheduler.state_dict()
    with pytest.raises(
        ConfigError, match="no layer signals: another policy or an earlier version of ganno-bench wrote it"
    ):
        loop.scheduler.load_state_dict({name: value for name, value in state.items() if name != "layers"})
    loop.update(0)
    state = loop.scheduler.state_dict()
    wide = torch.optim.SGD(layer_groups(nn.Sequential(*[nn.Linear(9, 9) for _ in range(3)])), lr=0.1)
    scheduler = GannoScheduler(wide, 23, folder)
    with pytest.raises(ConfigError, match="samples of other sizes: another network or policy wrote it"):
        scheduler.load_state_dict(state)
    with pytest.raises(ConfigError, match="samples of other rows"):
        loop.scheduler.load_state_dict({**state, "layers": {**state["layers"], "rows": ["parameters"]}})
    samples = state["layers"]["samples"].flatten(1)
    with pytest.raises(ConfigError, match="samples have another layout: an earlier version of ganno-bench wrote it"):
        loop.scheduler.load_state_dict({**state, "layers": {**state["layers"], "samples": samples}})
    with pytest.raises(ConfigError, match="not a state of a GannoScheduler: KeyError: 'n_updates'"):
        loop.scheduler.load_state_dict({name: value for name, value in state.items() if name != "n_updates"})
    with pytest.raises(
        VersionError, match="key 'format' is 3; this version of ganno-bench reads 1 to 2; a later version wrote it, up"
    ):
        loop.scheduler.load_state_dict({**state, "format": 3})
    assert (scheduler.n_updates, loop.scheduler.n_updates) == (0, 1)
    loop.scheduler.load_state_dict({name: value for name, value in state.items() if name != "format"})  # as the first


def test_a_copy_of_a_loop_goes_on_by_itself(folder: Path) -> None:
    whole, loop = Loop(folder), Loop(folder)
    rates = [whole.update(index) for index in range(23)]
    for index in range(7):
        loop.update(index)
    again = copy.deepcopy(loop)
    assert [again.update(index) for index in range(7, 23)] == rates[7:]
    assert [loop.update(index) for index in range(7, 23)] == rates[7:]


@pytest.mark.filterwarnings("ignore:Using backward")
@pytest.mark.parametrize("folder", ["absolute"], indirect=True)
def test_gradients_may_be_differentiable_missing_or_of_another_order(folder: Path) -> None:
    torch.manual_seed(0)
    inputs, rates = torch.randn(13, 4, 70, 6, 6), []
    for channels_last in (False, True):
        torch.manual_seed(1)
        net = nn.Sequential(nn.Conv2d(70, 40, 3), nn.Conv2d(40, 3, 3), nn.Flatten(), nn.Linear(12, 2), nn.Linear(9, 9))
        if channels_last:
            net = net.to(memory_format=torch.channels_last)
        optimizer = torch.optim.SGD(layer_groups(net), lr=0.01)
        scheduler = GannoScheduler(optimizer, 13, folder)
        rates.append([])
        for batch in inputs:
            rates[-1] += scheduler.get_last_lr()
            optimizer.zero_grad()
            loss = net[:4](batch).square().mean()
            loss.backward(create_graph=True)
            optimizer.step()
            scheduler.step(loss)
            for parameter in net.parameters():
                parameter.grad = None  # as torch asks for, who made it differentiable
        assert net[0].weight.is_contiguous() != channels_last
    np.testing.assert_allclose(rates[0], rates[1], rtol=1e-6)
    assert len(set(rates[0])) > 3


def test_what_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    Policy(PolicyCard(name="some", observation=("progress", "log-grad-norm"))).save(tmp_path / "some")
    table = nn.Embedding(10, 3, sparse=True)
    optimizer = torch.optim.SGD([table.weight], lr=0.1)
    scheduler = GannoScheduler(optimizer, 13, tmp_path / "some")
    loss = table(torch.tensor([1, 2])).sum()
    loss.backward()
    optimizer.step()
    with pytest.raises(
        ConfigError, match="gradients are sparse and cannot be measured; use a policy that reads no layers: ganno-light"
    ):
        scheduler.step(loss)
    table.weight.requires_grad_(False)
    with pytest.raises(ConfigError, match="the optimizer has no parameters that require gradients"):
        GannoScheduler(optimizer, 13, tmp_path / "some")


@pytest.mark.parametrize("observation", [("progress", "log-update-ratio"), DEFAULT_OBSERVATION])
def test_an_update_that_was_skipped_for_what_is_not_looked_at(tmp_path: Path, observation: tuple[str, ...]) -> None:
    Policy(PolicyCard(name="some", observation=observation, interval=2)).save(tmp_path / "some")
    net = nn.Sequential(nn.Linear(200, 200), nn.Linear(200, 2))
    optimizer = torch.optim.SGD(layer_groups(net), lr=0.1)
    scheduler = GannoScheduler(optimizer, 13, tmp_path / "some")
    seen = shown(scheduler)
    for index in range(4):
        optimizer.zero_grad()
        loss = net(torch.randn(8, 200)).square().mean()
        loss.backward()
        if index == 3:
            net[0].weight.grad[0, 100] = torch.inf  # and the scaler lets the optimizer do nothing
            assert layout.Blocks.of(40_000).take(net[0].weight.grad).isfinite().all()
        else:
            optimizer.step()
        scheduler.step(loss)
    for name in {"update_norm", "grad_norm"} & seen[0].keys():
        assert [np.isfinite(signals[name]).all() for signals in seen] == [True, False]


def test_one_layer_that_is_not_finite_leaves_the_others(tmp_path: Path) -> None:
    Policy(PolicyCard(name="some", observation=("log-param-norm",), interval=2)).save(tmp_path / "some")
    loop = Loop(tmp_path / "some")
    with torch.no_grad():
        loop.net.second.weight[0, 0] = torch.inf
    assert loop.scheduler._layers is not None
    assert np.isfinite(loop.scheduler._layers.at_first()["param_norm"]).tolist() == [True, False, True]


@pytest.mark.parametrize("folder", ["absolute"], indirect=True)
def test_what_is_kept_of_a_large_network_is_small(folder: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(300, 400), nn.Linear(400, 300), nn.Linear(300, 2))
    optimizer = torch.optim.SGD(layer_groups(net), lr=0.1, momentum=0.9)
    scheduler = GannoScheduler(optimizer, 23, folder)
    for _ in range(6):
        optimizer.zero_grad()
        loss = net(torch.randn(8, 300)).square().mean()
        loss.backward()
        optimizer.step()
        scheduler.step(loss)
    assert scheduler._layers is not None
    assert scheduler._layers._table.shape[1] < 0.03 * sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize("folder", ["absolute", "global", "recurrent"], indirect=True)
def test_gradients_that_are_gone_are_missed(folder: Path) -> None:
    loop = Loop(folder)
    with pytest.raises(
        ConfigError,
        match=r"no gradients; call scheduler.step\(\) after optimizer.step\(\) and before optimizer.zero_grad",
    ):
        loop.scheduler.step(1.0)
    step = loop.scheduler.step

    def clear_and_step(loss: Tensor) -> None:
        loop.optimizer.zero_grad(set_to_none=False)
        step(loss)

    loop.scheduler.step = clear_and_step  # type: ignore[method-assign]
    with pytest.raises(
        ConfigError, match=r"all gradients are zero, since they were cleared too early; call scheduler\.step"
    ):  # its momentum is not
        loop.update(0)
    assert loop.scheduler.n_updates == 0


def test_what_is_refused(folder: Path, tmp_path: Path) -> None:
    net = Net()
    optimizer = torch.optim.SGD(layer_groups(net), lr=0.1)
    with pytest.raises(ConfigError, match=r"total_updates: must be at least 1 \(value: 0\)"):
        GannoScheduler(optimizer, 0, folder)
    with pytest.raises(ConfigError, match=r"optimizer: must be a torch optimizer \(value: a Net\)"):
        GannoScheduler(net, 10, folder)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="neither a folder nor the name of a shipped policy"):
        GannoScheduler(optimizer, 10, tmp_path / "nothing")
    with pytest.raises(ConfigError, match=r"n_layers: must be at least 1 \(value: 0\)"):
        GannoScheduler(optimizer, 10, folder, n_layers=0)
    card = load_policy(folder).card
    if card.action.scope == "layer" or card.observation != BLIND:
        with pytest.raises(
            ConfigError,
            match=r"n_layers: must be left out, because the policy 'some' reads .* \(value: 3\); make the optimizer",
        ):
            GannoScheduler(optimizer, 10, folder, n_layers=3)
    optimizer.param_groups[1]["lr"] = 0.2
    with pytest.raises(ConfigError, match=r"begin with different learning rates: \[0.1, 0.2\]"):
        GannoScheduler(optimizer, 10, folder)


SHIPPED = "; shipped policies: ganno, ganno-anchored, ganno-global, ganno-light"


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("runs", "folder 'runs' is not a policy folder: it has no card.toml" + SHIPPED),
        (
            "runs/mine",
            "folder 'runs/mine' is not a policy folder: it has no card.toml; did you mean 'runs/mine/policy'?"
            + SHIPPED,
        ),
        (
            "ganno-lihgt",
            "policy 'ganno-lihgt' is neither a folder nor the name of a shipped policy; did you mean 'ganno-light'?"
            + SHIPPED,
        ),
        ("nothing", "policy 'nothing' is neither a folder nor the name of a shipped policy" + SHIPPED),
    ],
)
def test_what_is_no_policy_is_named_with_the_shipped_ones(
    ref: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Policy(PolicyCard(name="mine", observation=("progress",))).save(tmp_path / "runs" / "mine" / "policy")
    monkeypatch.chdir(tmp_path)
    optimizer = torch.optim.SGD(layer_groups(Net()), lr=0.1)
    with pytest.raises(ConfigError) as caught:
        GannoScheduler(optimizer, 10, ref)
    assert str(caught.value) == message
    GannoScheduler(optimizer, 10, "runs/mine/policy")


def test_a_policy_that_observes_a_validation_loss_asks_for_it(tmp_path: Path) -> None:
    Policy(PolicyCard(name="some", observation=("progress", "log-val-loss"), interval=2)).save(tmp_path / "some")
    loop = Loop(tmp_path / "some")
    loop.update(0)
    seen = []
    decide = loop.scheduler._decide
    loop.scheduler._decide = lambda loss, val_loss: (seen.append(val_loss), decide(loss, val_loss))[1]  # type: ignore
    for _ in range(2):
        with pytest.raises(
            ConfigError,
            match=r"val_loss: must be given, .* observes it \(value: None\); call step\(loss, val_loss\)",
        ):
            loop.scheduler.step(1.0)
        assert loop.scheduler.n_updates == 1  # nothing is lost
    with pytest.raises(RuntimeError):
        loop.scheduler.step(1.0, val_loss=torch.zeros(2))
    assert loop.scheduler.n_updates == 1
    loop.scheduler.step(1.0, val_loss=torch.tensor(0.5, requires_grad=True))
    assert loop.scheduler.n_updates == 2
    assert seen == [0.5]


def test_a_learning_rate_that_is_a_tensor_stays_that_tensor(folder: Path) -> None:
    """Captured and compiled optimizers keep the address of the tensor."""
    numbers, tensors = Loop(folder), Loop(folder)
    shared = torch.tensor(0.1, dtype=torch.float64)
    for group in tensors.optimizer.param_groups:
        group["lr"] = shared  # as an optimizer does that is given a tensor
    tensors.scheduler = GannoScheduler(tensors.optimizer, 23, folder)
    rates = [group["lr"] for group in tensors.optimizer.param_groups]
    assert len({id(rate) for rate in rates}) == 3
    assert [tensors.update(index) for index in range(23)] == [numbers.update(index) for index in range(23)]
    for group, rate in zip(tensors.optimizer.param_groups, rates, strict=True):
        assert group["lr"] is rate
    assert rates[0] is shared


def test_losses_of_another_device_are_not_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Loop(folder)
    rates = [plain.update(index) for index in range(23)]
    elsewhere, resumed = Loop(folder), Loop(folder)
    with monkeypatch.context() as patch:
        patch.setattr(torch_loop, "kept_loss", lambda loss: loss.detach().reshape(()).clone())
        assert [elsewhere.update(index) for index in range(13)] == rates[:13]
        for name in ("net", "optimizer", "scheduler"):
            getattr(resumed, name).load_state_dict(copy.deepcopy(getattr(elsewhere, name).state_dict()))
        assert [elsewhere.update(index) for index in range(13, 23)] == rates[13:]
    assert [resumed.update(index) for index in range(13, 23)] == rates[13:]


@pytest.mark.parametrize("folder", ["absolute", "light"], indirect=True)
@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (None, "must be a string or a real number, not 'NoneType'"),
        ("low", "could not convert string to float: 'low'"),
        (torch.zeros(2), "loss: must be a single number, the mean over the batch (shape: (2,))"),
    ],
)
def test_what_is_no_loss_is_refused_at_once(folder: Path, loss: object, message: str) -> None:
    loop = Loop(folder)
    loop.update(0)
    with pytest.raises((TypeError, ValueError, ConfigError), match=re.escape(message)):
        loop.scheduler.step(loss)  # type: ignore[arg-type]
    assert loop.scheduler.n_updates == 1


@pytest.mark.slow(group="docs")
def test_the_example_runs() -> None:
    example = Path(__file__).parents[2] / "examples" / "ganno_in_your_loop.py"
    done = subprocess.run([sys.executable, str(example)], capture_output=True, text=True, check=True)
    assert float(done.stdout.rpartition("held-out accuracy ")[2]) > 0.85
    assert len(example.read_text().splitlines()) <= 30
