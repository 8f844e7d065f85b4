"""What a small round particle looks like in a bright-field microscope, in and out of focus.

The particle is a thin disc that delays and absorbs light (projection approximation: the delay
follows the thickness of a sphere). The wave behind it is cut by the objective's aperture,
propagated to the plane in focus (Fresnel), squared, and averaged over the directions of the
condenser. Everything has circular symmetry, so all transforms are Hankel transforms; see
Goodman, Introduction to Fourier Optics, chapters 2, 4 and 7.

Lengths are in units of the particle's radius, phases in waves.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import j0, j1

Floats = NDArray[np.float64]

LEVELS = 25
"""Planes of focus that a table holds, from ``-Particle.depth`` to ``+Particle.depth``."""

SAMPLES = 160
"""Distances from the centre that a profile holds, from 0 to ``Particle.reach``."""


@dataclass(frozen=True)
class Particle:
    """A kind of particle, and the microscope's numbers that matter for it.

    Attributes:
        waves: delay of light through its middle; negative for a bubble.
        absorption: share of the amplitude that is lost through its middle, in [0, 1].
        wavelength: of the light.
        depth: largest defocus, above 0.
        reach: distance from the centre beyond which it leaves the light as it was, above 1.
        aperture: numerical aperture of the objective.
        condenser: numerical aperture of the illumination.
    """

    waves: float
    absorption: float
    wavelength: float
    depth: float
    reach: float
    aperture: float = 0.5
    condenser: float = 0.12


def profile(kind: Particle, defocus: float) -> NDArray[np.float32]:
    """Brightness around a particle, 1 = as bright as the ground.

    Args:
        kind: which particle.
        defocus: from the particle to the plane in focus; beyond ``kind.depth`` it is cut off.

    Returns:
        float32 (`SAMPLES`,), at equally spaced distances from 0 to ``kind.reach``; its last value
        is 1.
    """
    table = _table(kind)
    level = (np.clip(defocus / kind.depth, -1, 1) + 1) / 2 * (LEVELS - 1)
    below = min(int(level), LEVELS - 2)
    return table[below] + np.float32(level - below) * (table[below + 1] - table[below])


@cache
def _table(kind: Particle) -> NDArray[np.float32]:
    """Profiles (`LEVELS`, `SAMPLES`) of a kind, made once per process in about 0.01 s."""
    radius, radius_step = _midpoints(1.0, 200)
    thickness = np.sqrt(1 - radius**2)
    wave = (1 - kind.absorption * thickness) * np.exp(2j * np.pi * kind.waves * thickness)
    # The undisturbed wave is 1 everywhere; what the particle adds to it ends at its rim.
    highest = kind.aperture / kind.wavelength
    frequency, step = _midpoints(highest, max(120, int(6 * highest * kind.reach)))
    added = _transform(frequency, radius, radius_step) @ (wave - 1)
    # A softer edge than an ideal aperture has: lamps are not lasers, and far rings wash out.
    added *= np.clip(2 * (1 - frequency / highest), 0, 1)
    defocus = np.linspace(-kind.depth, kind.depth, LEVELS)[:, None]
    spread = added * np.exp(1j * np.pi * kind.wavelength * defocus * frequency**2)

    far, far_step = _midpoints(kind.reach, 400)
    excess = np.abs(1 + spread @ _transform(far, frequency, step).T) ** 2 - 1
    excess *= np.clip(3 * (1 - far / kind.reach), 0, 1)  # rings of lone light end, however weak
    # Averaging over the condenser's cone = blurring with a disc that grows with the defocus.
    twice, twice_step = _midpoints(2 * highest, 2 * len(frequency))
    spectrum = excess @ _transform(twice, far, far_step).T
    spectrum *= _disc(2 * np.pi * kind.condenser * np.abs(defocus) * twice)
    distance = np.linspace(0, kind.reach, SAMPLES)
    brightness = 1 + spectrum @ _transform(distance, twice, twice_step).T
    brightness = 1 + (brightness - 1) * np.clip(4 * (1 - distance / kind.reach), 0, 1)
    return np.maximum(brightness, 0).astype(np.float32)


def _midpoints(end: float, count: int) -> tuple[Floats, float]:
    step = end / count
    return np.asarray((np.arange(count) + 0.5) * step, np.float64), step


def _transform(to: Floats, source: Floats, step: float) -> Floats:
    """Matrix of the Hankel transform of order 0 from ``source`` (at midpoints) to ``to``."""
    return j0(2 * np.pi * np.outer(to, source)) * (2 * np.pi * step * source)


def _disc(x: Floats) -> Floats:
    """2 J1(x) / x, the transform of a disc of area 1."""
    safe = np.where(x < 1e-6, 1.0, x)
    return np.where(x < 1e-6, 1.0, 2 * j1(safe) / safe)
