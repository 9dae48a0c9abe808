"""Direct coding: a picture at every step, its first convolution computed once, and input scales."""

import pytest
import torch

from snn.errors import ModelError
from snn.models.registry import MODELS, ModelSettings, build_model
from snn.neurons.settings import NEURONS

FAMILIES = ("vgg5", "mobilenet", "resnet18", "preact_resnet18", "spikformer_4_256")


def network(name: str = "vgg5", **settings: object) -> torch.nn.Module:
    torch.manual_seed(0)
    known = {"width": 0.05, "executor": "reference", "neuron": NEURONS["lt"], "dropout": 0.0}
    return build_model(ModelSettings(name, **(known | settings)), input_hw=(32, 32), classes=3, in_channels=3)


def picture(batch: int = 3) -> torch.Tensor:
    return torch.rand(1, batch, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("train", [True, False])
def test_the_same_as_frames_that_were_copied(name, train):
    once, copied = network(name, steps=3).train(train), network(name).train(train)
    found, expected = once(picture()), copied(picture().repeat(3, 1, 1, 1, 1))
    assert found.shape == (3, 3, 3)
    torch.testing.assert_close(found, expected)
    if train:
        found.square().sum().backward()
        expected.square().sum().backward()
        for (label, a), b in zip(once.named_parameters(), copied.parameters(), strict=True):
            if b.grad is not None:
                torch.testing.assert_close(a.grad, b.grad, msg=lambda text, label=label: f"{label}: {text}")
        for (label, a), b in zip(once.named_buffers(), copied.buffers(), strict=True):
            torch.testing.assert_close(a, b, msg=lambda text, label=label: f"{label}: {text}")


@pytest.mark.parametrize("name", FAMILIES)
def test_the_first_convolution_sees_a_picture_once(name):
    model, seen = network(name, steps=4).eval(), []
    first = next(module for module in model.modules() if isinstance(module, torch.nn.Conv2d))
    first.register_forward_pre_hook(lambda _, arguments: seen.append(len(arguments[0])))
    model(picture(2))
    assert seen == [2]


def test_compiled_neurons_take_repeated_steps():
    reference, compiled = network(steps=3), network(steps=3, executor="numba")
    torch.testing.assert_close(compiled(picture()), reference(picture()))
    assert all(
        torch.allclose(a, b)
        for a, b in zip(compiled.buffers(), reference.buffers(), strict=True)
        if a.is_floating_point()
    )


def test_steps_and_frames_of_steps_exclude_each_other():
    with pytest.raises(ModelError, match="repeats frames of one step, and frames of 2 steps"):
        network(steps=3)(picture().repeat(2, 1, 1, 1, 1))
    with pytest.raises(ModelError, match="steps: found 0, expected at least 1"):
        ModelSettings(steps=0)


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        ("none", (255.0, 0.0, 51.0)),
        ("unit", (1.0, 0.0, 0.2)),
        # (1 - 0.4914) / 0.2023, (0 - 0.4822) / 0.1994, (0.2 - 0.4465) / 0.2010
        ("cifar10", (2.514088, -2.418255, -1.226368)),
    ],
)
def test_pictures_are_scaled_before_the_first_layer(scale, expected):
    model, seen = network(input_scale=scale), []
    model.block1.conv.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    frames = torch.tensor([255.0, 0.0, 51.0])[:, None, None].expand(1, 2, 3, 32, 32)
    model(frames)
    torch.testing.assert_close(seen[0][0, :, 5, 5], torch.tensor(expected), rtol=0, atol=1e-5)


def test_a_scale_of_colours_needs_colours():
    with pytest.raises(ModelError, match="'cifar10', which is for 3 planes, and frames of 1; use 'unit'"):
        build_model(ModelSettings("vgg5", input_scale="cifar10"), input_hw=(32, 32), classes=3, in_channels=1)
    with pytest.raises(ModelError, match="input_scale: found 'cifar', expected one of none, unit, cifar10"):
        ModelSettings(input_scale="cifar")


def test_every_family_is_tried():
    assert set(FAMILIES) <= set(MODELS)
