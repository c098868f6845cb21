"""`layer_groups` finds layers inside wrappers, including frozen ones; groups that are no layers cause a warning."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint

from ganno_bench import GannoScheduler, layer_groups
from ganno_bench.core.errors import ConfigError, PluginError
from tests.helpers.plain_loop import Net


class Residual(nn.Module):
    """Blocks that `natural_blocks` opens: 8 layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(8, 16)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(16, 16), nn.LayerNorm(16), nn.Linear(16, 16)) for _ in range(3)
        )
        self.head = nn.Linear(16, 3)


class Declared(Residual):
    """The same network, whose blocks are layers: 5."""

    def layers(self) -> Mapping[str, Sequence[nn.Module]]:
        blocks = {f"block{index}": [block] for index, block in enumerate(self.blocks)}
        return {"stem": [self.stem], **blocks, "head": [self.head]}


class Encoder(nn.Module):
    """A list of blocks, each of which is a layer: 4."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 16)
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(16, 2, 16) for _ in range(3))


class Holder(nn.Module):
    """Like a Lightning module: one attribute is the network; others, such as metrics, have no parameters."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.loss = nn.CrossEntropyLoss()
        self.network = network


class Checkpointed(nn.Module):
    """Wraps a block, as activation checkpointing does."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self._checkpoint_wrapped_module = block

    def forward(self, inputs: torch.Tensor) -> object:
        return checkpoint(self._checkpoint_wrapped_module, inputs)


def compiled(network: nn.Module) -> nn.Module:
    wrapped: nn.Module = torch.compile(network)  # type: ignore[assignment]
    return wrapped


def names(network: nn.Module) -> list[str]:
    return [group["name"] for group in layer_groups(network)]


WRAPPERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "compiled": compiled,
    "parallel": nn.DataParallel,
    "averaged": AveragedModel,
    "holder": Holder,
    "holder of a holder": lambda network: Holder(Holder(network)),
    "averaged and compiled": lambda network: compiled(AveragedModel(network)),
    "holder of a compiled one": lambda network: Holder(compiled(network)),
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
@pytest.mark.parametrize(("network", "n_layers"), [(Residual, 8), (Declared, 5), (Encoder, 4), (Net, 3)])
def test_wrappers_are_looked_through(
    wrap: Callable[[nn.Module], nn.Module], network: Callable[[], nn.Module], n_layers: int
) -> None:
    plain = network()
    wrapped = wrap(plain)
    groups = layer_groups(wrapped)
    assert len(groups) == len(names(plain)) == n_layers
    assert sum(len(group["params"]) for group in groups) == len([*plain.parameters()])


def test_so_are_those_of_blocks() -> None:
    plain, wrapped = Encoder(), Encoder()
    wrapped.layers = nn.ModuleList(Checkpointed(compiled(block)) for block in wrapped.layers)
    assert names(wrapped) == names(plain)
    one, same = Net(), Net()
    same.second = compiled(same.second)  # type: ignore[assignment]
    assert names(same) == names(one)


def test_what_has_something_of_its_own_is_the_network() -> None:
    holder = Holder(nn.Linear(3, 3))
    assert names(holder) == ["network"]
    holder.temperature = nn.Parameter(torch.ones(()))
    assert names(holder) == ["network"]  # and the temperature with it
    assert len(layer_groups(holder)[0]["params"]) == 3


def test_frozen_layers_are_among_the_groups() -> None:
    net = Net()
    net.first.requires_grad_(False)
    assert names(net) == ["first", "second", "third"]
    assert [group["layer"] for group in layer_groups(net)] == [0, 1, 2]


@pytest.mark.parametrize("policy", ["ganno-anchored", "ganno-global", "ganno-light"])
def test_groups_that_are_no_layers_are_warned_of(policy: str) -> None:
    remedy = (
        r"give n_layers=len\(layer_groups"
        if policy == "ganno-light"
        else r"make the optimizer from layer_groups\(model\)"
    )
    net = Residual()
    with pytest.warns(UserWarning, match=f"has one parameter group, which counts as a layer, .*; {remedy}"):
        GannoScheduler(torch.optim.AdamW(net.parameters(), lr=1e-3), 10, policy)
    decay = [{"params": [p for p in net.parameters() if p.dim() == n]} for n in (2, 1)]
    with pytest.warns(UserWarning, match=f"has 2 parameter groups, each of which counts as a layer, .*; {remedy}"):
        GannoScheduler(torch.optim.AdamW(decay, lr=1e-3), 10, policy)
    halves = [{"params": half.parameters()} for half in (nn.Sequential(*[nn.Linear(2, 2)] * 1), Deep())]
    with pytest.warns(UserWarning, match="has 2 parameter groups"):
        GannoScheduler(torch.optim.AdamW(halves, lr=1e-3), 10, policy)


class Deep(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(*(nn.Linear(2, 2) for _ in range(40)))


@pytest.mark.parametrize("policy", ["ganno-anchored", "ganno-light"])
def test_groups_that_are_layers_are_not(policy: str) -> None:
    """Warnings are errors here."""
    for net in (Residual(), Declared(), Encoder(), nn.TransformerEncoderLayer(16, 2, 16)):
        GannoScheduler(torch.optim.AdamW(layer_groups(net), lr=1e-3), 10, policy)
    own = [{"params": [*block.parameters()]} for block in Encoder().layers]
    GannoScheduler(torch.optim.AdamW(own, lr=1e-3), 10, policy)
    if policy == "ganno-light":
        GannoScheduler(torch.optim.AdamW(Residual().parameters(), lr=1e-3), 10, policy, n_layers=8)


def test_layers_have_their_places_whatever_the_order_of_the_groups() -> None:
    rates = []
    for order in ((0, 1, 2), (2, 0, 1)):
        net = Net()
        groups = layer_groups(net)
        optimizer = torch.optim.SGD([groups[index] for index in order], lr=0.1, momentum=0.9)
        scheduler = GannoScheduler(optimizer, 60, "ganno")
        inputs = torch.randn(60, 16, 6, generator=torch.Generator().manual_seed(1))
        for batch in inputs:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(batch), batch[:, 0].long().clamp(0, 2))
            loss.backward()
            optimizer.step()
            scheduler.step(loss)
        rates.append({group["name"]: group["lr"] for group in optimizer.param_groups})
    assert rates[0] == rates[1]
    assert len(set(rates[0].values())) > 1
    twice = layer_groups(Net()) + layer_groups(Net())  # two networks, one after the other
    scheduler = GannoScheduler(torch.optim.SGD(twice, lr=0.1), 60, "ganno-anchored")
    assert scheduler._run.layer_names == ("first", "second", "third") * 2


def test_layers_with_and_without_weight_decay_are_warned_of() -> None:
    net = Net()
    split = [
        {**group, "params": [parameter for parameter in group["params"] if parameter.dim() == n_axes]}
        for group in layer_groups(net)
        for n_axes in (2, 1)
    ]
    for policy in ("ganno-anchored", "ganno-light"):
        with pytest.warns(UserWarning, match="has 6 parameter groups, each of which counts as a layer"):
            GannoScheduler(torch.optim.AdamW(split, lr=1e-3), 10, policy)


def test_vectors_beside_the_network_do_not_hide_it() -> None:
    """A loss or metric of a Lightning module may have such vectors; they are trained with a layer."""
    for network, n_layers in ((Residual, 8), (Declared, 5), (Encoder, 4), (Net, 3)):
        holder = Holder(network())
        holder.loss.scale = nn.Parameter(torch.ones(3))  # type: ignore[assignment]
        groups = layer_groups(holder)
        assert len(groups) == n_layers
        assert sum(len(group["params"]) for group in groups) == len([*holder.parameters()])


def test_members_may_declare_their_layers() -> None:
    pair = nn.ModuleDict({"generator": Declared(), "critic": Net()})
    blocks = [f"block{index}" for index in range(3)]
    assert names(pair) == [*(f"generator.{name}" for name in ("stem", *blocks, "head")), "critic"]


@pytest.mark.parametrize("found", [["stem", "head"], {"all": nn.Linear(2, 2)}, {"all": ["stem"]}])
def test_a_wrong_declaration_is_named(found: object) -> None:
    net = Net()
    net.layers = lambda: found  # type: ignore[assignment]
    with pytest.raises(PluginError, match=r"model Net: layers\(\) must return a mapping from layer names to lists"):
        layer_groups(net)
    net.layers = lambda inputs: inputs  # type: ignore[assignment]
    assert names(net) == ["first", "second", "third"]  # not a declaration


def test_a_normalisation_belongs_to_the_map_before_it_whatever_makes_its_weight() -> None:
    def net(wrap: Callable[[nn.Module], nn.Module]) -> nn.Module:
        return nn.Sequential(wrap(nn.Conv2d(1, 4, 3)), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))

    assert names(net(nn.utils.parametrizations.weight_norm)) == names(net(lambda module: module)) == ["0", "2"]
    with_norm = layer_groups(net(nn.utils.parametrizations.weight_norm))
    assert [len(group["params"]) for group in with_norm] == [5, 4]


def test_what_cannot_be_looked_at_is_named() -> None:
    with pytest.raises(ConfigError, match=r"parameter '0\.weight' has no shape yet; run a batch through the model"):
        layer_groups(nn.Sequential(nn.LazyLinear(3)))
    meta = nn.Linear(3, 3, device="meta")
    for net, message in ((nn.LazyLinear(3), "has no shape yet"), (meta, "on the meta device")):
        with pytest.raises(ConfigError, match=message):
            GannoScheduler(torch.optim.SGD([{"params": [*net.parameters()], "layer": 0}], lr=0.1), 10, "ganno-global")


def test_parameters_in_place_of_the_network_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"model: must be a torch module \(value: a generator\)"):
        layer_groups(Net().parameters())  # type: ignore[arg-type]
