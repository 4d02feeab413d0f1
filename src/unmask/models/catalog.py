"""Detectors that others published and this package can read; where each is, and on what terms.

Nothing here is fetched. What a source does not say is ``unknown``, and unknown terms allow nothing.
``docs/published-detectors.md`` is the same list for people.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["PUBLISHED", "UNKNOWN", "Published", "allows_commerce", "find_published", "named"]

UNKNOWN = "unknown"
"""Terms that the publisher does not state where we looked."""

_FREE = frozenset({"apache-2.0", "bsd-2-clause", "bsd-3-clause", "mit"})
"""SPDX names, in lower case, that allow commercial use; the others do not, or are unclear."""

_NON_COMMERCIAL = "CC-BY-NC-4.0"
_RESEARCH = "research, non-commercial"


@dataclass(frozen=True, slots=True)
class Published:
    """One detector as its authors published it."""

    id: str
    """What it is called here: a short name, or its Hub id."""
    kind: Literal["effort", "univfd", "gend", "hf"]
    """What ``unmask convert`` calls its format."""
    where: str
    """Name of its file, or its id on the Hugging Face Hub (with a slash)."""
    domain: Literal["face", "image"]
    """Whether it takes aligned faces or whole pictures."""
    command: str
    """What to run; ``FILE`` and ``DIR`` stand for the user's own paths."""
    paper: str
    """Title and place of the paper; "none" where there is none."""
    note: str
    """What else to know: training data, meaning of its outputs, measured weaknesses."""
    paper_url: str | None = None
    sha256: str | None = None
    """Of the weights file, where it is known."""
    tower: str | None = None
    """OpenAI's name of its CLIP; None where the list does not say it, or it is none of them."""
    licence_code: str = UNKNOWN
    licence_weights: str = UNKNOWN
    licence_data: str = UNKNOWN
    """Of what it was trained on."""

    @property
    def hub_id(self) -> str | None:
        """Its id on the Hub; None where it is a file."""
        return self.where if "/" in self.where else None

    @property
    def commercial(self) -> bool:
        """Whether code, weights and data all have terms that allow commercial use."""
        return allows_commerce(self.licence_code, self.licence_weights, self.licence_data)


def allows_commerce(*terms: str) -> bool:
    """Whether all of these SPDX names are known to allow commercial use; ``unknown`` is not.

    >>> allows_commerce("MIT", "Apache-2.0"), allows_commerce("MIT", UNKNOWN)
    (True, False)
    """
    return {name.lower() for name in terms} <= _FREE


def find_published(
    *, sha256: str | None = None, file_name: str | None = None, hub_id: str | None = None
) -> Published | None:
    """The entry of a file or Hub model; None where the list does not have it.

    The hash decides where an entry has one: a file of a known name with another hash is another
    file. Names are compared without regard to case.

    Args:
        sha256: Of the weights file, in hexadecimal.
        file_name: Last component of its path.
        hub_id: ``org/name``, without a revision.
    """
    digest = None if sha256 is None else sha256.lower()
    for entry in PUBLISHED:
        if digest is not None and entry.sha256 == digest:
            return entry
    names = {name.lower() for name in (file_name, hub_id) if name is not None}
    for entry in PUBLISHED:
        # A Hub model may get new weights under its id; a file of another hash is another file.
        other = digest is not None and entry.sha256 is not None and entry.hub_id is None
        if entry.where.lower() in names and not other:
            return entry
    return None


def named(name: str) -> Published | None:
    """The entry of this id, or of a file of this name; None where the list does not have it."""
    lower = name.lower()
    return next((one for one in PUBLISHED if lower in (one.id.lower(), one.where.lower())), None)


_EFFORT = (
    "Orthogonal Subspace Decomposition for Generalizable AI-Generated Image Detection, ICML 2025"
)
_EFFORT_URL = "https://arxiv.org/abs/2411.15633"
_GEND = "Deepfake Detection that Generalizes Across Benchmarks, WACV 2026"
_GEND_URL = "https://arxiv.org/abs/2508.06248"


def _effort(
    name: str, file: str, domain: Literal["face", "image"], note: str, *, data: str = UNKNOWN,
    sha256: str | None = None,
) -> Published:  # fmt: skip
    return Published(
        id=name,
        kind="effort",
        where=file,
        domain=domain,
        command="unmask convert effort FILE DIR",
        tower="ViT-L/14",
        paper=_EFFORT,
        paper_url=_EFFORT_URL,
        note=note,
        sha256=sha256,
        licence_code=_NON_COMMERCIAL,
        licence_data=data,
    )


def _gend(name: str, hub_id: str, note: str, *, weights: str = UNKNOWN, sha256: str | None = None,
          command: str | None = None) -> Published:  # fmt: skip
    return Published(
        id=name,
        kind="gend",
        where=hub_id,
        domain="face",
        command=command or f"unmask convert gend {hub_id} DIR",
        paper=_GEND,
        paper_url=_GEND_URL,
        note=f"{note} Trained on FaceForensics++. Its authors align faces in another way than "
        "unmask does.",
        sha256=sha256,
        licence_code="MIT",
        licence_weights=weights,
        licence_data=_RESEARCH,
    )


def _classifier(
    hub_id: str, note: str, *, weights: str = UNKNOWN, fake: str | None = None, **known: str
) -> Published:
    flag = "" if fake is None else f" --fake-label {fake}"
    return Published(
        id=hub_id,
        kind="hf",
        where=hub_id,
        domain="image",
        command=f"unmask convert hf {hub_id} DIR{flag}",
        paper=known.get("paper", "none"),
        paper_url=known.get("paper_url"),
        note=note,
        licence_code=known.get("code", UNKNOWN),
        licence_weights=weights,
    )


PUBLISHED: tuple[Published, ...] = (
    _effort(
        "effort-ffpp",
        "effort_clip_L14_trainOn_FaceForensic.pth",
        "face",
        "CLIP ViT-L/14, trained on FaceForensics++ c23. The code's licence is a badge without a "
        "licence file.",
        data=_RESEARCH,
    ),
    _effort(
        "effort-genimage",
        "effort_clip_L14_trainOn_sdv14.pth",
        "image",
        "CLIP ViT-L/14, trained on GenImage (Stable Diffusion 1.4). Not for faces: an average AUC "
        "of .575 on 19 face data sets was measured.",
        sha256="7c32ceb4e66d303050e8fc5dc7543fa347693fb4ee6b5df4d6eaf9f6a92fb813",
    ),
    _effort(
        "effort-chameleon",
        "effort_clip_L14_trainOn_chameleon.pth",
        "image",
        "CLIP ViT-L/14, for the Chameleon data of AIDE, which are non-commercial.",
        data="non-commercial",
    ),
    Published(
        id="univfd",
        kind="univfd",
        where="fc_weights.pth",
        domain="image",
        command="unmask convert univfd FILE DIR --base openai/clip-vit-large-patch14",
        paper="Towards Universal Fake Image Detectors that Generalize Across Generative Models, "
        "CVPR 2023",
        paper_url="https://arxiv.org/abs/2302.10174",
        note="A linear head of 4 kB on CLIP ViT-L/14's projected feature; needs the CLIP too. "
        "Trained on ProGAN.",
        sha256="477100745713bcc957beb2b40859536859b6483fd6301b3b9293151b194c7847",
        tower="ViT-L/14",
        licence_code="MIT",
        licence_weights="MIT",
    ),
    _gend(
        "gend-clip-l14",
        "yermandy/GenD_CLIP_L_14",
        "CLIP ViT-L/14; output 1 is fake, its config names no labels.",
        sha256="d76f0bdfd74a29fe1b1c1b84a80ac92486993e426878e8c7a3944281fbb96833",
    ),
    _gend(
        "gend-dinov3-l",
        "yermandy/GenD_DINOv3_L",
        "DINOv3 ViT-L; output 1 is fake. The tower itself is under Meta's DINOv3 licence.",
    ),
    _gend(
        "gend-pe-l",
        "yermandy/GenD_PE_L",
        "Perception Encoder L, which transformers does not have: it cannot be converted.",
        weights="MIT",
        command="none: its tower is not in transformers",
    ),
    _classifier(
        "dima806/deepfake_vs_real_image_detection",
        "ViT-B on face pictures; 0 Real, 1 Fake. Others measured an AUC of .51 on blended faces, "
        "and 99 to 100 % of old people's portraits called fake.",
        weights="Apache-2.0",
    ),
    _classifier(
        "dima806/ai_vs_real_image_detection",
        "ViT-B, trained on CIFAKE (pictures of 32 pixels); 0 REAL, 1 FAKE.",
        weights="Apache-2.0",
    ),
    _classifier(
        "prithivMLmods/deepfake-detector-model-v1",
        "SigLIP; 0 fake, 1 real. Accuracy .944 on its own test.",
        weights="Apache-2.0",
    ),
    _classifier(
        "prithivMLmods/Deepfake-Detection-Exp-02-21",
        "ViT-B; 0 Deepfake, 1 Real, the other way round than the model it was made from.",
        weights="Apache-2.0",
    ),
    _classifier(
        "prithivMLmods/Deep-Fake-Detector-v2-Model",
        "ViT-B; labels Realism and Deepfake. Accuracy .921 on its own test; its card calls an "
        "earlier version average on other pictures.",
        weights="Apache-2.0",
    ),
    _classifier(
        "itsLeen/realFake-img",
        "ViT-B made from dima806/deepfake_vs_real_image_detection with the labels turned round: 0 "
        "AiArtData, 1 RealArt.",
        weights="Apache-2.0",
    ),
    _classifier(
        "WpythonW/dinoV2-deepfake-detector",
        "DINOv2 S with registers. Its config does not name the labels; its card says 0 is fake.",
        weights="Apache-2.0",
        fake="0",
    ),
    _classifier(
        "umm-maybe/AI-image-detector",
        "Swin-B; 0 artificial, 1 human. Others saw no separation on a few DALL-E pictures.",
    ),
    _classifier(
        "Smogy/SMOGY-Ai-images-detector",
        "Its labels are not known to this list: convert says them and may ask.",
    ),
    _classifier(
        "buildborderless/CommunityForensics-DeepfakeDet-ViT",
        "ViT trained on thousands of generators. Its labels are not known to this list: convert "
        "says them and may ask.",
        weights="MIT",
        code="MIT",
        paper="Community Forensics: Using Thousands of Generators to Train Fake Image Detectors",
        paper_url="https://arxiv.org/abs/2411.04125",
    ),
)
"""By kind."""
