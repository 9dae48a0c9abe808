"""Activations of few levels, their calibration, and percentiles without sorting."""

import pytest
import torch
from torch import nn

from snn.conversion.calibration import calibrate
from snn.conversion.percentile import StreamingPercentile, percentile, rank_of
from snn.errors import ConversionError, QuantError
from snn.quant.levels import LevelReLU, LevelSettings, to_levels


def numbers(seed, count=997):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, generator=generator) * 10 ** torch.randint(-6, 6, (count,), generator=generator)
    x[:40] = 0.0
    x[40:60] = -0.0
    x[60:90] = x[100]
    return x


@pytest.mark.parametrize("percent", [0.001, 12.5, 50.0, 99.7, 100.0])
def test_percentiles_are_those_of_sorted_numbers(percent):
    x = numbers(1)
    assert percentile(x, percent) == x.sort().values[rank_of(percent, len(x)) - 1].item()


def test_batches_and_processes_change_nothing():
    x = numbers(2)
    whole, parts = StreamingPercentile(99.7), [StreamingPercentile(99.7) for _ in range(2)]
    whole.add(x)
    for part, share in zip(parts, (x[:400], x[400:]), strict=True):
        for batch in share.split(37):
            part.add(batch)
    together = parts[0]._own_counts() + parts[1]._own_counts()
    for found in (*parts, whole):
        found.narrow(lambda counts, f=found: counts if f is whole else together)
    whole.add(x)
    parts[0].add(x[400:].flip(0))
    parts[1].add(x[:400])
    together = parts[0]._own_counts() + parts[1]._own_counts()
    assert {part.result(lambda _: together) for part in parts} == {whole.result()}


@pytest.mark.parametrize("keep", [997, 996])
def test_few_numbers_are_kept(keep):
    x = numbers(3)
    found = StreamingPercentile(99.7, keep=keep)
    for batch in x.split(100):
        found.add(batch)
    again = found.narrow()
    assert again == (keep < len(x))
    if again:
        found.add(x)
    assert found.result() == percentile(x, 99.7)


def test_no_numbers_and_no_finite_numbers_are_refused():
    with pytest.raises(ConversionError, match="found no numbers, expected at least one"):
        StreamingPercentile(50).narrow()
    with pytest.raises(ConversionError, match="found NaN or infinity"):
        StreamingPercentile(50).add(torch.tensor([1.0, torch.nan]))


def test_levels_by_hand():
    x = torch.tensor([0.0, 0.1, 0.17, 0.18, 0.36, 0.7, 0.71, 1.0, 3.0, 1e-10])
    zero, one = torch.tensor(0.0), torch.tensor(1.0)
    # b = 2, log: 1/4, 1/2, 1, which begin at 2^-2.5 = 0.1768, 2^-1.5 = 0.354 and 2^-0.5 = 0.707.
    log = to_levels(x, zero, one, LevelSettings("log", 2))
    assert log.tolist() == [0, 0, 0, 0.25, 0.5, 0.5, 1, 1, 1, 0]
    # b = 2, lvl: 1/2 and 1.
    assert to_levels(x, zero, one, LevelSettings("lvl", 2)).tolist() == [0, 0, 0, 0, 0.5, 0.5, 1, 1, 1, 0]
    even = to_levels(x, zero, one, LevelSettings("uniform", 1))
    assert even.tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1, 0]
    released = to_levels(x, zero, one, LevelSettings("uniform", 1, published=True))
    assert released[8].item() == 3.0
    assert to_levels(x, zero, one, LevelSettings("log", 2, published=True))[9].item() == 1.0


def test_ranges_are_measured_over_everything_and_the_network_is_left_as_it_was():
    batches = [torch.rand(4, 3, generator=torch.Generator().manual_seed(n)) * (n + 1) for n in range(3)]
    model = nn.Sequential(nn.Dropout(0.5), LevelReLU(LevelSettings(percentile=90.0)))
    ranges = calibrate(model, lambda: batches)
    everything = torch.cat(batches).flatten().sort().values
    expected = everything[rank_of(90.0, 36) - 1].item()
    assert ranges == {"1": (0.0, expected)}
    assert model[1].maximum.item() == expected
    assert model.training
    assert not model[1].transparent


def test_ranges_that_are_missing_or_empty_are_refused():
    layer = LevelReLU(LevelSettings())
    with pytest.raises(QuantError, match="range of activations: found 0 to 0, expected one above 0"):
        layer(torch.ones(2))
    with pytest.raises(
        ConversionError, match=r"the 99\.7 percentile of its activations is 0, expected above 0"
    ):
        calibrate(nn.Sequential(layer), lambda: [torch.zeros(3)])
    with pytest.raises(ConversionError, match="found no numbers"):
        calibrate(nn.Sequential(layer), list)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "lgo"}, "kind: found 'lgo', expected one of log, lvl, uniform; did you mean 'log'"),
        ({"bits": 0}, "bits: found 0, expected a whole number from 1 to 8"),
        ({"percentile": 0.0}, "percentile: found 0.0, expected above 0 and at most 100"),
    ],
)
def test_levels_that_cannot_be_are_refused(settings, message):
    with pytest.raises(QuantError, match=message):
        LevelSettings(**settings)
