"""What may stand in ``data.augment``: names, parameters, defaults and ranges; no torch here.

Or ``{_target_: mypackage.Class, ...}``, a class of somebody's own with its arguments: see
`phasewise.augment.pipeline.Augment` for what it is called with.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from phasewise.config.help import problems_of
from phasewise.config.signatures import TARGET
from phasewise.config.targets import check_target
from phasewise.errors import Problem, UserError

KEY = "data.augment"

NO_BOXES = "a window of another image may leave out the object that its box says is there"
"""Why cutmix is not for boxes."""


@dataclass(frozen=True)
class Parameter:
    """One number of an augmentation; ``low`` and ``high`` are allowed values themselves."""

    default: float
    low: float
    high: float
    doc: str
    whole: bool = False


@dataclass(frozen=True)
class Augmentation:
    """One name with its parameters. Settings ``x_min`` and ``x_max`` are the ends of one range."""

    doc: str
    parameters: Mapping[str, Parameter]


def _p(default: float) -> Parameter:
    return Parameter(default, 0, 1, "probability, per image")


def _amount(default: float) -> Parameter:
    return Parameter(default, 0, 1, "the factor is drawn from 1 - amount to 1 + amount")


AUGMENTATIONS: dict[str, Augmentation] = {
    "flip": Augmentation("mirror left and right", {"p": _p(0.5)}),
    "vflip": Augmentation("mirror top and bottom", {"p": _p(0.5)}),
    "translate": Augmentation(
        "enlarge, then crop at a random place (Random2DTranslation of re-identification)",
        {"p": _p(0.5), "factor": Parameter(1.125, 1, 2, "enlarged side / side")},
    ),
    "shift": Augmentation(
        "move by whole pixels",
        {"p": _p(1), "fraction": Parameter(0.1, 0, 1, "largest move / side, each way")},
    ),
    "scale": Augmentation(
        "zoom about a random point of the image",
        {
            "p": _p(1),
            "zoom_min": Parameter(0.8, 0.1, 10, "smallest zoom factor, < 1 shrinks"),
            "zoom_max": Parameter(1.25, 0.1, 10, "largest zoom factor"),
        },
    ),
    "rotate": Augmentation(
        "rotate about the centre",
        {"p": _p(1), "degrees": Parameter(10, 0, 180, "largest angle, each way")},
    ),
    "crop": Augmentation(
        "crop a random window and resize it back (random resized crop)",
        {
            "p": _p(1),
            "area_min": Parameter(0.5, 0.01, 1, "smallest window / image, by area"),
            "area_max": Parameter(1, 0.01, 1, "largest window / image, by area"),
            "ratio_min": Parameter(3 / 4, 0.1, 10, "narrowest width / height, 1 = the image's"),
            "ratio_max": Parameter(4 / 3, 0.1, 10, "widest width / height, 1 = the image's"),
        },
    ),
    "perspective": Augmentation(
        "move the four corners inwards",
        {"p": _p(0.5), "distortion": Parameter(0.2, 0, 0.6, "largest move / half the side")},
    ),
    "brightness": Augmentation("multiply all values", {"p": _p(1), "amount": _amount(0.2)}),
    "contrast": Augmentation(
        "blend with the image's mean grey", {"p": _p(1), "amount": _amount(0.2)}
    ),
    "saturation": Augmentation(
        "blend with the image in grey", {"p": _p(1), "amount": _amount(0.2)}
    ),
    "hue": Augmentation(
        "rotate the colours about the grey axis",
        {"p": _p(1), "amount": Parameter(0.05, 0, 0.5, "largest turn, each way; 0.5 = half turn")},
    ),
    "color_jitter": Augmentation(
        "brightness and contrast (the re-identification recipe), then saturation and hue if asked "
        "for (ColorJitter)",
        {
            "p": _p(1),
            "brightness": _amount(0.2),
            "contrast": _amount(0.15),
            "saturation": _amount(0),
            "hue": Parameter(0, 0, 0.5, "largest turn, each way; 0.5 = half turn"),
        },
    ),
    "color_augment": Augmentation(
        "lighting noise along the principal components of ImageNet's colours (AlexNet)",
        {"p": _p(0.5), "std": Parameter(0.1, 0, 1, "standard deviation of the three draws")},
    ),
    "autoaugment": Augmentation(
        "one of the 25 sub-policies that AutoAugment found for ImageNet: two operations, each with "
        "its own probability, of colours (all come first) or rotate and shear",
        {"p": _p(1)},
    ),
    "blur": Augmentation(
        "Gaussian blur",
        {
            "p": _p(0.2),
            "sigma_min": Parameter(0.1, 0.1, 10, "smallest standard deviation, in pixels"),
            "sigma_max": Parameter(2, 0.1, 10, "largest standard deviation, in pixels"),
        },
    ),
    "erase": Augmentation(
        "fill one random rectangle with the mean colour (random erasing)",
        {
            "p": _p(0.5),
            "area_min": Parameter(0.02, 0.001, 1, "smallest rectangle / image, by area"),
            "area_max": Parameter(0.4, 0.001, 1, "largest rectangle / image, by area"),
            "ratio_min": Parameter(0.3, 0.1, 10, "narrowest width / height, in pixels"),
            "ratio_max": Parameter(3.33, 0.1, 10, "widest width / height, in pixels"),
        },
    ),
    "cutout": Augmentation(
        "fill squares at random places with the mean colour",
        {
            "p": _p(1),
            "size": Parameter(0.25, 0.01, 1, "side of a square / shorter side of the image"),
            "holes": Parameter(1, 1, 16, "number of squares", whole=True),
        },
    ),
    "cutmix": Augmentation(
        "replace one window of every image of the batch by that of another one, the mask with it",
        {"alpha": Parameter(1, 0.01, 10, "the share that stays is drawn from Beta(alpha, alpha)")},
    ),
    "mixup": Augmentation(
        "blend every image of the batch with another one",
        {"alpha": Parameter(0.2, 0.01, 10, "the weight is drawn from Beta(alpha, alpha)")},
    ),
}
"""Every augmentation by the name that people type."""


def check_augment(entries: object, *, imports: bool = False) -> list[Problem]:
    """What is wrong with ``data.augment``; an empty list means nothing.

    Args:
        entries: should be a list whose items are a name, ``{name: {parameter: value}}``, or a
            mapping with ``_target_``.
        imports: whether the latter are imported, to compare them with their signatures.
    """
    return list(_problems(entries, imports=imports))


def augment_names(entries: Iterable[str | Mapping[str, Any]]) -> list[str]:
    """The names of entries that `check_augment` has nothing against."""
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def settings(entries: Sequence[str | Mapping[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """The entries in order, each as its name and ALL its parameters (defaults filled in); one of
    somebody's own as ``_target_`` and the whole mapping.

    Raises:
        UserError: an unknown name or parameter, or a value outside its range.
    """
    problems = _problems(entries)
    if problems:
        advice = (
            "an entry is a name or {name: {setting: value}}, e.g. [flip, {rotate: {degrees: 5}}]"
        )
        raise UserError(f"problem(s) in {KEY}", problems, advice)
    filled: list[tuple[str, dict[str, Any]]] = []
    for entry in entries:
        if isinstance(entry, Mapping) and TARGET in entry:
            filled.append((TARGET, dict(entry)))
            continue
        name, given = _split(entry)
        parameters = AUGMENTATIONS[name].parameters
        filled.append((name, {key: given.get(key, p.default) for key, p in parameters.items()}))
    return filled


def _split(entry: str | Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    if isinstance(entry, str):
        return entry, {}
    ((name, given),) = entry.items()
    return name, given or {}


def _problems(entries: object, *, imports: bool = False) -> list[Problem]:
    if isinstance(entries, str) or not isinstance(entries, Sequence):
        return [Problem(KEY, f"{entries!r} is not a list; write e.g. [flip, scale]")]
    problems: list[Problem] = []
    seen: set[str] = set()
    for position, entry in enumerate(entries):
        if isinstance(entry, Mapping) and TARGET in entry:
            problems += _own_problems(entry, f"{KEY}[{position}]") if imports else ()
            continue
        if not (isinstance(entry, str) or (isinstance(entry, Mapping) and len(entry) == 1)):
            problems.append(Problem(KEY, f"{entry!r} is neither a name nor one {{name: settings}}"))
            continue
        name, given = _split(entry)
        if name not in AUGMENTATIONS:
            problems.append(Problem(KEY, _unknown(name, "an augmentation", AUGMENTATIONS)))
        elif name in seen:
            problems.append(Problem(KEY, f"{name!r} is listed twice"))
        elif not isinstance(given, Mapping):
            problems.append(Problem(f"{KEY}.{name}", f"{given!r} is not {{setting: value}}"))
        else:
            problems += _parameter_problems(name, given)
        seen.add(name)
    return problems


def _own_problems(entry: Mapping[str, Any], key: str) -> list[Problem]:
    try:
        check_target(entry)
    except ValidationError as error:
        found = problems_of(error, dict(entry))
        return [Problem(f"{key}.{it.file}", it.reason) for it in found]
    return []


def _parameter_problems(name: str, given: Mapping[str, Any]) -> list[Problem]:
    parameters = AUGMENTATIONS[name].parameters
    problems = []
    for key, value in given.items():
        if key not in parameters:
            reason = _unknown(key, f"a setting of {name}", parameters)
            problems.append(Problem(f"{KEY}.{name}", reason))
        elif reason := _value_problem(value, parameters[key]):
            problems.append(Problem(f"{KEY}.{name}.{key}", reason))
    if problems:
        return problems
    values = {key: given.get(key, parameter.default) for key, parameter in parameters.items()}
    for low in [key for key in values if key.endswith("_min")]:
        high = low.replace("_min", "_max")
        if values[low] > values[high]:
            reason = f"{low}={values[low]:g} is larger than {high}={values[high]:g}"
            problems.append(Problem(f"{KEY}.{name}", reason))
    return problems


def _value_problem(value: object, parameter: Parameter) -> str:
    kind = "a whole number" if parameter.whole else "a number"
    allowed = f"allowed is {kind} from {parameter.low:g} to {parameter.high:g}"
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return f"{value!r} is not {kind}; {allowed}"
    if not parameter.low <= value <= parameter.high or (parameter.whole and value % 1):
        return f"{value} cannot be used; {allowed}"
    return ""


def _unknown(name: object, kind: str, allowed: Iterable[str]) -> str:
    allowed = sorted(allowed)
    near = difflib.get_close_matches(str(name), allowed, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{name!r} is not {kind}; {hint}allowed: {', '.join(allowed)}"
