"""Views of images equal torchvision's, pixel by pixel and in frequency."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import chi2_contingency, chisquare
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from ganno_bench.core.errors import ConfigError
from ganno_bench.workloads.augmentation import Augmentation
from ganno_bench.workloads.data import Examples
from ganno_bench.workloads.datasets import load_dataset
from ganno_bench.workloads.fingerprint import canonical_pixels
from ganno_bench.workloads.image_encoding import encode_images
from ganno_bench.workloads.suite import AugmentationSpec, DatasetSpec
from tests.helpers.workload_cases import images, stream

BLACK = (-0.5, -2.25)
HEIGHT, WIDTH = 6, 5
LEVEL = 1e-3


def augmentation(flip: bool, crop: int) -> Augmentation:
    data = images()
    data = replace(data, shape=replace(data.shape, input_shape=(2, HEIGHT, WIDTH)), black=BLACK)
    return Augmentation(AugmentationSpec(flip=flip, crop=crop), data)


def distinct_pixels(*shape: int) -> Tensor:
    n = int(np.prod(shape)) * 2 * HEIGHT * WIDTH
    return torch.arange(1.0, n + 1).view(*shape, 2, HEIGHT, WIDTH)


def torchvision_view(image: Tensor, flip: int, top: int, left: int, crop: int) -> Tensor:
    """Return one view of an image by torchvision, except for padding: its `pad` fills all channels with one value."""
    mirrored = tv.horizontal_flip(image) if flip else image
    padded = torch.stack([tv.pad(c[None], [crop], fill=b)[0] for c, b in zip(mirrored, BLACK, strict=True)])
    return tv.crop(padded, top, left, *image.shape[1:])


def all_views(image: Tensor, flip: bool, crop: int) -> list[Tensor]:
    offsets = range(2 * crop + 1)
    return [torchvision_view(image, *how, crop) for how in product(range(1 + flip), offsets, offsets)]


@pytest.mark.parametrize(("flip", "crop"), [(True, 0), (False, 2), (True, 2), (True, 4)])
def test_every_view_is_torchvisions_pixel_by_pixel(flip: bool, crop: int) -> None:
    augment = augmentation(flip, crop)
    image = distinct_pixels()
    expected = torch.stack(all_views(image, flip, crop))
    assert augment.n_views == len(expected) == len(expected.flatten(1).unique(dim=0))
    got = augment.view(image.expand_as(expected), torch.arange(augment.n_views))
    assert torch.equal(got, expected)
    assert got.is_contiguous()


def test_a_population_s_batch_is_that_of_its_images_one_by_one() -> None:
    augment = augmentation(True, 2)
    batch = distinct_pixels(3, 4)
    views = augment.draw(torch.Generator().manual_seed(0), 3, 4)
    single = [augment.view(batch[run, i], views[run, i]) for run, i in product(range(3), range(4))]
    assert torch.equal(augment.view(batch, views), torch.stack(single).view(batch.shape))


@pytest.mark.parametrize(("flip", "crop"), [(True, 0), (False, 1), (True, 1), (True, 2)])
def test_views_are_as_frequent_as_torchvisions(flip: bool, crop: int) -> None:
    n = 6000
    image = distinct_pixels()
    known = {view.numpy().tobytes(): index for index, view in enumerate(all_views(image, flip, crop))}
    steps: list[v2.Transform] = [v2.RandomHorizontalFlip(0.5)] if flip else []
    if crop:
        # torchvision cannot pad each channel with another value, so a placeholder is replaced afterwards.
        steps.append(v2.RandomCrop((HEIGHT, WIDTH), padding=crop, fill=-7.0))
    transform = v2.Compose(steps)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        theirs = torch.stack([transform(image) for _ in range(n)])
    theirs = torch.where(theirs == -7.0, torch.tensor(BLACK)[:, None, None], theirs)
    augment = augmentation(flip, crop)
    views = augment.draw(torch.Generator().manual_seed(1), n // 10, 10)
    ours = augment.view(image.expand(n // 10, 10, *image.shape), views).flatten(0, 1)
    counts = np.array(
        [
            np.bincount([known[view.numpy().tobytes()] for view in sample], minlength=len(known))
            for sample in (ours, theirs)
        ]
    )
    assert chi2_contingency(counts).pvalue > LEVEL
    assert chisquare(counts[0]).pvalue > LEVEL
    table = counts[0].reshape(1 + flip, 2 * crop + 1, 2 * crop + 1)
    for axis in range(3):  # flips, vertical offsets, horizontal offsets
        of_axis = table.sum(axis=tuple({0, 1, 2} - {axis}))
        assert len(of_axis) == 1 or chisquare(of_axis).pvalue > LEVEL


def test_views_are_drawn_anew_for_each_update_and_example() -> None:
    augment = augmentation(True, 2)
    views = augment.draw(torch.Generator().manual_seed(3), 400, 50)
    assert views.shape == (400, 50)
    for pairs in ((views[:-1], views[1:]), (views[:, :-1], views[:, 1:])):
        same = (pairs[0] == pairs[1]).double().mean()
        assert float(same) == pytest.approx(1 / augment.n_views, abs=0.005)
    assert torch.equal(augment.draw(torch.Generator().manual_seed(3), 9, 50), views[:9])
    assert not torch.equal(augment.draw(torch.Generator().manual_seed(4), 400, 50), views)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_padding_is_what_a_black_pixel_becomes(mode: str) -> None:
    rng = np.random.default_rng(0)
    shape = (12, 4, 4, 3) if mode == "RGB" else (12, 4, 4)
    bright = [canonical_pixels(Image.fromarray(x)) for x in rng.integers(90, 256, shape, dtype=np.uint8)]
    # Padded before encoding, as a second split; the training images have no black pixels.
    padded = np.pad(bright[0], [(1, 1), (1, 1)] + [(0, 0)] * (len(shape) - 3))
    crops = [padded[y : y + 4, x : x + 4] for y in range(3) for x in range(3)]
    encoded, black = encode_images({"train": bright, "crops": crops}, None, False)
    data = replace(images(), black=black)
    data = replace(data, shape=replace(data.shape, input_shape=tuple(encoded["train"].shape[1:])))
    augment = Augmentation(AugmentationSpec(crop=1), data)
    assert torch.equal(augment.view(encoded["train"][:1].expand(9, -1, -1, -1), torch.arange(9)), encoded["crops"])


def test_a_dataset_says_what_black_is() -> None:
    digits = load_dataset("d", DatasetSpec(source="digits", task="image-classification", input="image", target="label"))
    assert isinstance(digits.train, Examples)
    assert digits.black == (float(digits.train.inputs.min()),)  # the background of a digit


def test_precision_changes_pixels_by_their_rounding_alone() -> None:
    data = replace(images(), black=BLACK)
    spec = AugmentationSpec(flip=True, crop=3)
    batch = torch.randn(4, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    views = torch.tensor([0, 7, 60, 97])
    single = Augmentation(spec, data).view(batch, views)
    half = Augmentation(spec, data, "cpu", torch.bfloat16).view(batch.bfloat16(), views)
    assert torch.equal(single.bfloat16(), half)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"crop": 8},
            "crop must be less than the sides of the images, 8x8 in dataset 'images' (value: 8)",
        ),
        ({"crop": 1}, "dataset 'images' has no known black, which a crop pads with; remove the crop"),
    ],
)
def test_what_is_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Augmentation(AugmentationSpec(**change), images())
    assert str(caught.value) == message


def test_text_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^dataset 'stream' has no images; only images can be flipped and cropped$"):
        Augmentation(AugmentationSpec(flip=True), stream())
