"""Which of a classifier's labels mean fake, from their names.

The words and rules are described in ``docs/published-labels.md``. Nothing is guessed: a name that
is not made of known words alone, or of words of both kinds, is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from unmask.errors import ConfigError, near_names

__all__ = ["FAKE", "NEUTRAL", "REAL", "Meaning", "Polarity", "meaning", "polarity"]

Meaning = Literal["real", "fake"]


def _words_of(text: str) -> frozenset[str]:
    return frozenset(text.split())


REAL = _words_of(
    "real reals realism realistic realart human humans hum authentic genuine original originals "
    "pristine bonafide nature natural photograph photographic camera untampered unaltered "
    "unmodified unmanipulated unedited legit legitimate"
)
"""Words for pictures that nothing was done to."""

FAKE = _words_of(
    # What is done, and by what.
    "fake fakes faked deepfake deepfakes df artificial ai aiart aigc aigi aigen aigenerated "
    "synthetic synthetics synthesis synthesised synthesized generated generative gen machine cgi "
    "manipulated manipulation tampered forged forgery altered doctored swap swapped faceswap "
    "faceswapped face2face neuraltextures faceshifter deepfakedetection spoof spoofed "
    # Kinds of generators, and generators of public benchmarks (ForenSynths, GenImage, DiffusionDB).
    "gan gans diffusion diffused ddpm ddim ldm adm glide vqdm wukong stylegan progan biggan "
    "cyclegan stargan gaugan stablediffusion sd sdxl sdv midjourney mj dalle dall flux imagen "
    "firefly ideogram kandinsky deepfloyd pixart playground gpt sora"
)
"""Words for pictures that were made or changed, and names of what makes them."""

NEUTRAL = _words_of(
    "image images img imgs picture pictures pic pics photo photos face faces facial art artwork "
    "data dataset video videos frame frames media content class category label sample person "
    "people portrait portraits made created by the a an of is deep stable e v version mini pro xl "
    "neural textures computer"
)
"""Words that may stand beside the others and say nothing by themselves."""

# Signs that separate words and say nothing; any other (!, ~, =, ?, an emoji) may turn them round,
# and so may a sign before the first word (-fake) or a number after a colon (fake: 0).
_PLAIN = re.compile(r"[\w \-/.,()&+:]*")
_TURNED = re.compile(r"\s*[^\w\s(]|.*:\s*\d")
_CHUNK = re.compile(r"[^\W_]+")
_CAMEL = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[^A-Za-z]+")
_VERSION = re.compile(r"v?\d+$")
_UNNAMED = re.compile(r"LABEL_(\d+)")


@dataclass(frozen=True, slots=True)
class Polarity:
    """The outputs of a classifier by what they mean; each one is in one of the two."""

    real: tuple[int, ...]
    fake: tuple[int, ...]


def meaning(name: str) -> Meaning | None:
    """What a label of that name means; None where its words do not tell, or contradict.

    >>> meaning("AiArtData"), meaning("Realism"), meaning("not fake"), meaning("LABEL_1")
    ('fake', 'real', None, None)
    """
    if not _PLAIN.fullmatch(name) or _TURNED.match(name):
        return None
    words = [word for chunk in _CHUNK.findall(name) for word in _words(chunk)]
    if any(word not in REAL | FAKE | NEUTRAL and not word.isdecimal() for word in words):
        return None
    is_real = any(word in REAL for word in words)
    is_fake = any(word in FAKE for word in words)
    if is_real == is_fake:
        return None
    return "fake" if is_fake else "real"


def polarity(
    id2label: Mapping[int, str],
    *,
    fake_labels: Sequence[str] = (),
    label2id: Mapping[str, object] | None = None,
) -> Polarity:
    """Which outputs stand for real pictures and which for fakes.

    Args:
        id2label: As in the model's ``config.json``; a name for each output, from 0.
        fake_labels: Names or numbers of those that mean fake; all others then mean real. Without
            it the names decide.
        label2id: As in ``config.json``, where it has one; its numbers may be text. It is only
            checked against ``id2label``.

    Raises:
        ConfigError: If the outputs are not numbered from 0, a name is not understood or not
            there, the two mappings contradict each other, or all outputs mean the same.
    """
    count = len(id2label)
    if count == 0 or sorted(id2label) != list(range(count)):
        raise ConfigError(
            f"id2label is {dict(id2label)}; a name for each output, numbered from 0, was expected"
        )
    names = [str(id2label[number]) for number in range(count)]
    if not fake_labels:
        _check_label2id(names, label2id or {})
        return _by_names(names)
    if any(label in names or not label.isdecimal() for label in fake_labels):
        _check_label2id(names, label2id or {})
    fakes = {number for label in fake_labels for number in _numbers(label, names)}
    reals = tuple(number for number in range(count) if number not in fakes)
    if not reals and count > 1:
        raise ConfigError(
            f"all labels of {_shown(names)} were named as fake; at least one must mean real"
        )
    return Polarity(real=reals, fake=tuple(sorted(fakes)))


def _words(chunk: str) -> list[str]:
    """Known words in a run of letters and digits; what is not known is given as it stands."""
    whole = chunk.lower()
    known = REAL | FAKE | NEUTRAL
    for candidate in (whole, _VERSION.sub("", whole)):
        if candidate in known:
            return [candidate]
    pieces = [piece.lower() for piece in _CAMEL.findall(chunk)]
    return pieces if len(pieces) > 1 else [whole]


def _by_names(names: Sequence[str]) -> Polarity:
    if len(names) == 1:
        raise ConfigError(
            f"the classifier has the single output {names[0]!r}, and whether it grows with real or "
            "with fake is not said; if it grows with fake, name it (--fake-label 0)"
        )
    meanings = [meaning(name) for name in names]
    unclear = [name for name, found in zip(names, meanings, strict=True) if found is None]
    if unclear:
        raise ConfigError(
            f"which of the labels {_shown(names)} mean fake is not clear from "
            f"{', '.join(map(repr, unclear))}; name those that do (--fake-label NAME, once for "
            "each; all others then mean real)"
        )
    if len(set(meanings)) == 1:
        raise ConfigError(
            f"all labels of {_shown(names)} seem to mean {meanings[0]}; name those that mean fake "
            "(--fake-label NAME, once for each; all others then mean real)"
        )
    return Polarity(
        real=tuple(number for number, found in enumerate(meanings) if found == "real"),
        fake=tuple(number for number, found in enumerate(meanings) if found == "fake"),
    )


def _numbers(label: str, names: Sequence[str]) -> list[int]:
    """The outputs that a label given by the user names: by its name, else by its number."""
    for same in (str, str.casefold):
        found = [number for number, name in enumerate(names) if same(name) == same(label)]
        if found:
            return found
    if label.isdecimal() and int(label) < len(names):
        return [int(label)]
    raise ConfigError(
        f"--fake-label {label!r} is not one of the labels {_shown(names)}. "
        f"{near_names(label, names)}"
    )


def _check_label2id(names: Sequence[str], label2id: Mapping[str, object]) -> None:
    for name, number in label2id.items():
        # transformers fills these in where nobody gave names.
        if _UNNAMED.fullmatch(name):
            continue
        if not re.fullmatch(r"\d+", str(number)):
            raise ConfigError(
                f"label2id gives {name!r} the number {number!r}; a whole number was expected"
            )
        index = int(str(number))
        if index >= len(names) or names[index] != name:
            raise ConfigError(
                f"id2label {_shown(names)} and label2id {dict(label2id)} contradict each other "
                f"over {name!r}, so either may be wrong; name the outputs that mean fake by their "
                "number (--fake-label 0)"
            )


def _shown(names: Sequence[str]) -> str:
    return str(dict(enumerate(names)))
