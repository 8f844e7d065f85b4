from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from segmentation.optics import SAMPLES, Particle, profile

BEAD = Particle(waves=0.7, absorption=0.2, wavelength=0.18, depth=5.0, reach=4.0)


def _by_fourier(kind: Particle, defocus: float, side: int = 512, span: float = 16.0) -> Any:
    """The same picture on a plane, by fast Fourier transforms; along a row from the centre."""
    line = (np.arange(side) - side // 2) * span / side
    away = np.hypot(line[None], line[:, None])
    # Averaged over each pixel's area, roughly, as the rim's step needs it.
    thickness = np.sqrt(np.clip(1 - away**2, 0, None))
    wave = (1 - kind.absorption * thickness) * np.exp(2j * np.pi * kind.waves * thickness)
    axis = np.fft.fftfreq(side, span / side)
    frequency = np.hypot(axis[None], axis[:, None])
    pupil = np.clip(2 * (1 - frequency * kind.wavelength / kind.aperture), 0, 1)
    lens = pupil * np.exp(1j * np.pi * kind.wavelength * defocus * frequency**2)
    picture = np.abs(1 + np.fft.ifft2(np.fft.fft2(wave - 1) * lens)) ** 2
    blur = kind.condenser * abs(defocus)
    if blur > 0:
        disc = (away <= blur).astype(float)
        spectrum = np.fft.fft2(np.fft.ifftshift(disc / disc.sum()))
        picture = np.fft.ifft2(np.fft.fft2(picture) * spectrum).real
    middle = side // 2
    return line[middle:], picture[middle, middle:]


@pytest.mark.parametrize("defocus", [-5.0, -1.25, 0.0, 2.5, 5.0])
def test_profiles_agree_with_fourier_optics_on_a_plane(defocus: float) -> None:
    line, expected = _by_fourier(BEAD, defocus)
    near = line < 2.5
    found = np.interp(line[near], np.linspace(0, BEAD.reach, SAMPLES), profile(BEAD, defocus))
    assert np.abs(found - expected[near]).max() < 0.08
    assert np.abs(found - expected[near]).mean() < 0.01


def test_the_middle_flips_with_the_sign_of_the_defocus() -> None:
    clear = Particle(0.7, 0.0, 0.18, 5.0, 4.0)
    assert profile(clear, -2)[0] > 2
    assert profile(clear, 2)[0] < 0.8
    one_side, other = profile(clear, -2), profile(clear, 2)
    ring = slice(SAMPLES // 5, SAMPLES // 3)  # 0.8 to 1.3 radii
    assert one_side[ring].mean() < 0.8
    assert other[ring].max() > 1.1


def test_energy_is_kept_without_absorption() -> None:
    """Phase moves light about, so the excess over the plane nearly vanishes."""
    clear = Particle(0.3, 0.0, 0.18, 5.0, 4.0)
    distance = np.linspace(0, clear.reach, SAMPLES)
    for defocus in (-3.0, 1.0, 4.0):
        excess = 2 * np.pi * np.trapezoid((profile(clear, defocus) - 1) * distance, distance)
        assert abs(excess) < 0.1 * np.pi
    dark = Particle(0.0, 0.9, 0.18, 5.0, 4.0)
    lost = 2 * np.pi * np.trapezoid((profile(dark, 0.0) - 1) * distance, distance)
    # 1 - (1 - a sqrt(1 - r^2))^2 over the disc = pi (4 a / 3 - a^2 / 2)
    assert lost == pytest.approx(-np.pi * (4 * 0.9 / 3 - 0.9**2 / 2), rel=0.1)


def test_far_away_nothing_is_seen_and_nothing_is_negative() -> None:
    for defocus in np.linspace(-6, 6, 9):
        values = profile(BEAD, defocus)
        assert values.shape == (SAMPLES,)
        assert values.dtype == np.float32
        assert values[-1] == 1
        assert values.min() >= 0
    assert np.array_equal(profile(BEAD, 9.0), profile(BEAD, 5.0))


def test_between_two_planes_of_the_table_it_is_their_mean() -> None:
    step = 2 * BEAD.depth / 24
    middle = (profile(BEAD, 0.0) + profile(BEAD, step)) / 2
    np.testing.assert_allclose(profile(BEAD, step / 2), middle, atol=1e-5)
