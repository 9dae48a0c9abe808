"""The steps of the simulated sensor, compiled: what `events.synth.sensor` defines, event by event."""

from typing import NamedTuple

import numpy as np
from numba import njit


class Step(NamedTuple):
    """One step of time and the log intensity float32 [H * W] at its start and end."""

    start_us: float
    step_us: int
    level: np.ndarray
    level_next: np.ndarray


class State(NamedTuple):
    """What the pixels remember, and which of them are held in reset.

    Attributes:
        memory: Log intensity remembered, float32 [H * W]; NaN while held, which compares as no event.
        held_pixel: The pixels that are held past the step, int64 [H * W].
        released_us: Until when, float64 [H * W].
        held: How many of these are in use, int64 [1].
    """

    memory: np.ndarray
    held_pixel: np.ndarray
    released_us: np.ndarray
    held: np.ndarray


class Noise(NamedTuple):
    """Noise events in the order of their times: time in microseconds, pixel, 1 for ON."""

    t_us: np.ndarray
    pixel: np.ndarray
    on: np.ndarray


@njit(cache=True, nogil=True)
def simulate(  # type: ignore[no-untyped-def]
    picture, offsets, step_us, pixels, phase, width, refractory_us, leak_per_step, noise
):
    """Run all steps; return the events as 64-bit words, two an event (time; then x, y, p)."""
    n = len(phase)
    level = np.empty(n, np.float32)
    level_next = np.empty(n, np.float32)
    _render(picture, offsets[0], width, np.float32(0), level)
    state = start_state(level, phase, pixels)
    # Eight flags are looked at as one word.
    changed = np.zeros((n + 7) // 8 * 8, np.uint8)
    step_events = np.empty(256, np.uint64)
    words = np.empty(1 << 16, np.uint64)
    n_words = 0
    noise_done = 0
    for s in range(len(offsets) - 1):
        step = Step(float(s * step_us), step_us, level, level_next)
        _render(picture, offsets[s + 1], width, leak_per_step * np.float32(s + 1), level_next)
        step_events, noise_done, words, n_words = advance(
            step, state, pixels, changed, refractory_us, width, noise, noise_done, step_events, words, n_words
        )
        level, level_next = level_next, level
    return words[:n_words].copy()


@njit(cache=True, nogil=True)
def advance_all(  # type: ignore[no-untyped-def]
    pictures, done, step_us, level, state, pixels, changed, refractory_us, leak_per_step, noise, noise_done,
    step_events, words, n_words,
):  # fmt: skip
    """Run a step to each of the pictures, float32 [n, H, W]; `done` were seen before, at last `level`.

    Returns:
        level, step_events, noise_done, words, n_words, as they are to be given to the next call.
    """
    for k in range(len(pictures)):
        level_next = pictures[k].ravel() + leak_per_step * np.float32(done + k)
        step = Step(float((done + k - 1) * step_us), step_us, level, level_next)
        step_events, noise_done, words, n_words = advance(
            step, state, pixels, changed, refractory_us, pictures.shape[2], noise, noise_done, step_events,
            words, n_words,
        )  # fmt: skip
        level = level_next
    return level, step_events, noise_done, words, n_words


@njit(cache=True, nogil=True)
def start_state(level, phase, pixels):  # type: ignore[no-untyped-def]
    """Return pixels that remember a level between their two thresholds, `phase` from 0 to 1."""
    n = len(level)
    memory = level + phase * (pixels.on_threshold + pixels.off_threshold) - pixels.on_threshold
    return State(memory, np.empty(n, np.int64), np.empty(n, np.float64), np.zeros(1, np.int64))


@njit(cache=True, nogil=True)
def advance(  # type: ignore[no-untyped-def]
    step, state, pixels, changed, refractory_us, width, noise, noise_done, step_events, words, n_words
):
    """Run one step: append its events to `words`, of which `n_words` are in use.

    Returns:
        step_events, noise_done, words, n_words, as they are to be given to the next step.
    """
    step_events, fired, noise_done = _fire_noise(step, state, refractory_us, noise, noise_done, step_events)
    _release(step, state)
    _find_changed(step.level_next, state.memory, pixels, changed)
    step_events, fired = _fire_changed(step, state, refractory_us, pixels, changed, step_events, fired)
    while n_words + 2 * fired > len(words):
        words = _doubled(words)
    _append_sorted(step_events[:fired], np.int64(step.start_us), step.step_us, width, words[n_words:])
    return step_events, noise_done, words, n_words + 2 * fired


@njit(cache=True, nogil=True)
def _fire_noise(step, state, refractory_us, noise, done, step_events):  # type: ignore[no-untyped-def]
    """Send this step's noise events and hold their pixels; a pixel held already sends none."""
    fired = 0
    end_us = step.start_us + step.step_us
    while done < len(noise.t_us) and noise.t_us[done] < end_us:
        pixel, at_us = noise.pixel[done], noise.t_us[done]
        if not np.isnan(state.memory[pixel]):
            if fired == len(step_events):
                step_events = _doubled(step_events)
            step_events[fired] = _pack(at_us - step.start_us, step.step_us, pixel, noise.on[done])
            fired += 1
            state.memory[pixel] = np.nan
            state.held_pixel[state.held[0]] = pixel
            state.released_us[state.held[0]] = at_us + refractory_us
            state.held[0] += 1
        done += 1
    return step_events, fired, done


@njit(cache=True, nogil=True)
def _fire_changed(  # type: ignore[no-untyped-def]
    step, state, refractory_us, pixels, changed, step_events, fired
):
    """Send the events of the marked pixels, as many as each pixel has time for in this step."""
    # Taken out of the tuples once: each use of a tuple's array inside the loop would count references.
    memory, level, level_next = state.memory, step.level, step.level_next
    held_pixel, released_us, held = state.held_pixel, state.released_us, state.held[0]
    on_threshold, off_threshold = pixels.on_threshold, pixels.off_threshold
    eights = changed.view(np.uint64)
    for eight in range(len(eights)):
        if eights[eight] == 0:
            continue
        for pixel in range(8 * eight, 8 * eight + 8):
            if not changed[pixel]:
                continue
            slope = level_next[pixel] - level[pixel]
            while True:
                rise = level_next[pixel] - memory[pixel]
                on = rise >= on_threshold[pixel]
                if not (on or -rise >= off_threshold[pixel]):  # also where it is held: NaN
                    break
                change = on_threshold[pixel] if on else -off_threshold[pixel]
                crossing = memory[pixel] + change - level[pixel]
                share = crossing / slope if slope != 0 else 0.0
                in_step_us = min(max(share, 0.0), 1.0) * step.step_us
                if fired == len(step_events):
                    step_events = _doubled(step_events)
                step_events[fired] = _pack(in_step_us, step.step_us, pixel, np.uint64(on))
                fired += 1
                until_us = in_step_us + refractory_us
                if until_us < step.step_us:
                    memory[pixel] = level[pixel] + until_us / step.step_us * slope
                else:
                    memory[pixel] = np.nan
                    held_pixel[held] = pixel
                    released_us[held] = step.start_us + until_us
                    held += 1
    state.held[0] = held
    return step_events, fired


@njit(cache=True, nogil=True)
def _render(picture, offset, width, leak, level):  # type: ignore[no-untyped-def]
    """Interpolate the picture under every pixel and add the leak so far."""
    row, column = int(np.floor(offset[0])), int(np.floor(offset[1]))
    down, right = np.float32(offset[0] - row), np.float32(offset[1] - column)
    one = np.float32(1)
    w00, w01, w10, w11 = (
        (one - down) * (one - right),
        (one - down) * right,
        down * (one - right),
        down * right,
    )
    for y in range(len(level) // width):
        upper = picture[row + y, column : column + width + 1]
        lower = picture[row + y + 1, column : column + width + 1]
        seen = level[y * width : (y + 1) * width]
        for x in range(width):
            seen[x] = w00 * upper[x] + w01 * upper[x + 1] + w10 * lower[x] + w11 * lower[x + 1] + leak


@njit(cache=True, nogil=True)
def _find_changed(level, memory, pixels, changed):  # type: ignore[no-untyped-def]
    """Mark the pixels that have crossed a threshold by the end of the step."""
    for i in range(len(level)):
        rise = level[i] - memory[i]
        changed[i] = (rise >= pixels.on_threshold[i]) | (-rise >= pixels.off_threshold[i])


@njit(cache=True, nogil=True)
def _release(step, state):  # type: ignore[no-untyped-def]
    """Let go the pixels whose refractory time ends in this step."""
    level, level_next, memory = step.level, step.level_next, state.memory
    held_pixel, released_us = state.held_pixel, state.released_us
    kept = 0
    for k in range(state.held[0]):
        pixel, in_step_us = held_pixel[k], released_us[k] - step.start_us
        if in_step_us < step.step_us:
            share = in_step_us / step.step_us
            memory[pixel] = level[pixel] + share * (level_next[pixel] - level[pixel])
        else:
            held_pixel[kept] = pixel
            released_us[kept] = released_us[k]
            kept += 1
    state.held[0] = kept


@njit(cache=True, nogil=True, inline="always")
def _pack(in_step_us, step_us, pixel, on):  # type: ignore[no-untyped-def]
    """Pack an event of this step: whole microsecond within the step, pixel, polarity."""
    microsecond = min(np.uint64(in_step_us), np.uint64(step_us - 1))
    return microsecond << np.uint64(40) | np.uint64(pixel) << np.uint64(1) | on


@njit(cache=True, nogil=True)
def _append_sorted(step_events, start_us, step_us, width, words):  # type: ignore[no-untyped-def]
    """Write a step's events in the order of their times, keeping the order of equal ones."""
    place = np.zeros(step_us + 1, np.int64)
    for event in step_events:
        place[(event >> np.uint64(40)) + np.uint64(1)] += 1
    for microsecond in range(step_us):
        place[microsecond + 1] += place[microsecond]
    for event in step_events:
        microsecond = event >> np.uint64(40)
        pixel = (event >> np.uint64(1)) & np.uint64((1 << 39) - 1)
        at = 2 * place[microsecond]
        place[microsecond] += 1
        words[at] = np.uint64(start_us) + microsecond
        y, x = pixel // np.uint64(width), pixel % np.uint64(width)
        words[at + 1] = x | y << np.uint64(16) | (event & np.uint64(1)) << np.uint64(32)


@njit(cache=True, nogil=True)
def _doubled(array):  # type: ignore[no-untyped-def]
    larger = np.empty(2 * len(array), array.dtype)
    larger[: len(array)] = array
    return larger
