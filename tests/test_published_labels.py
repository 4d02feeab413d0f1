import re
from pathlib import Path

import pytest

from unmask.errors import ConfigError
from unmask.models.published.labels import FAKE, NEUTRAL, REAL, Polarity, meaning, polarity


def names(text):
    return text.split()


# Names that published classifiers have, or might.
REAL_NAMES = names(
    "real Real REAL Realism RealArt realistic human hum Human-made authentic genuine original "
    "Originals nature natural Pristine bonafide real_images"
)
FAKE_NAMES = [
    *names("fake Fake FAKE Deepfake DeepFake deep_fake deep-fake artificial AI ai_gen AiArtData"),
    *names("synthetic generated AI-generated AIgenerated aiGenerated manipulated tampered"),
    *names("faceswap FaceSwap face_swap Face2Face NeuralTextures StyleGAN StyleGAN2 ProGAN"),
    *names("machine midjourney MidjourneyV6 Midjourney_v5 dalle DALL-E DALL-E-3 dalle3"),
    *names("StableDiffusion sd sd14 SDXL SDv1 ldm GLIDE ADM VQDM wukong BigGAN diffusion"),
    "stable diffusion",
    "Stable Diffusion XL 1.0",
    "AI generated image",
    "(AI) generated, synthetic & fake: image + art/data",
    "computer generated",
    "fake face",
]
UNCLEAR = [
    *names("LABEL_0 LABEL_1 0 1 not_fake notFake unreal unReal non-ai NonAI nonai not-real"),
    *names("real_or_fake realfake cat positive negative true false human-ai other computer"),
    *names("!real ~AI -fake real? is_fake=0 ≠fake ¬fake AI✗ fake:0 *fake #real fake|x .fake"),
    "AI: 0",
    "fake = false",
    "real ✗",
    "no♥real",
    "never generated",
    "AI generated human face",
    "image",
    "",
    "真实",
]


@pytest.mark.parametrize("name", REAL_NAMES)
def test_a_name_of_the_table_means_real(name):
    assert meaning(name) == "real"


@pytest.mark.parametrize("name", FAKE_NAMES)
def test_a_name_of_the_table_means_fake(name):
    assert meaning(name) == "fake"


@pytest.mark.parametrize("name", UNCLEAR)
def test_a_name_that_does_not_tell_has_no_meaning(name):
    assert meaning(name) is None


def test_a_word_has_one_meaning():
    assert not REAL & FAKE
    assert not (REAL | FAKE) & NEUTRAL


@pytest.mark.parametrize(
    ("labels", "fake"),
    [
        (("Real", "Fake"), (1,)),
        (("fake", "real"), (0,)),
        (("Deepfake", "Real"), (0,)),
        (("Realism", "Deepfake"), (1,)),
        (("AiArtData", "RealArt"), (0,)),
        (("artificial", "human"), (0,)),
        (("REAL", "FAKE"), (1,)),
        (("hum", "ai_gen"), (1,)),
        (("dalle", "real", "stable diffusion", "nature"), (0, 2)),
    ],
)
def test_published_labels_have_their_polarity(labels, fake):
    found = polarity(dict(enumerate(labels)))
    assert found.fake == fake
    assert sorted(found.real + found.fake) == list(range(len(labels)))


def test_an_unknown_name_is_an_error_that_shows_all_and_asks():
    with pytest.raises(ConfigError, match=r"\{0: 'cat', 1: 'fake'\}.*'cat'.*--fake-label"):
        polarity({0: "cat", 1: "fake"})


def test_labels_without_names_are_an_error():
    with pytest.raises(ConfigError, match="'LABEL_0', 'LABEL_1'; name those"):
        polarity({0: "LABEL_0", 1: "LABEL_1"})


def test_labels_that_all_mean_the_same_are_an_error():
    with pytest.raises(ConfigError, match="seem to mean fake"):
        polarity({0: "fake", 1: "midjourney"})


def test_labels_that_are_not_numbered_from_zero_are_an_error():
    with pytest.raises(ConfigError, match="numbered from 0"):
        polarity({1: "real", 2: "fake"})


def test_no_labels_are_an_error():
    with pytest.raises(ConfigError, match="numbered from 0"):
        polarity({})


def test_what_is_named_fake_is_fake_and_all_others_are_real():
    labels = {0: "a", 1: "b", 2: "c"}
    assert polarity(labels, fake_labels=["c", "a"]) == Polarity(real=(1,), fake=(0, 2))


def test_a_label_may_be_named_by_its_number():
    assert polarity({0: "LABEL_0", 1: "LABEL_1"}, fake_labels=["0"]) == Polarity((1,), (0,))


def test_a_name_goes_before_a_number():
    assert polarity({0: "1", 1: "0"}, fake_labels=["0"]) == Polarity((0,), (1,))


def test_a_label_may_be_named_in_other_case():
    assert polarity({0: "Spam", 1: "Ham"}, fake_labels=["spam"]) == Polarity((1,), (0,))


def test_the_exact_name_goes_before_one_in_other_case():
    assert polarity({0: "A", 1: "a"}, fake_labels=["a"]) == Polarity((0,), (1,))


def test_what_the_user_names_goes_before_the_table():
    assert polarity({0: "fake", 1: "real"}, fake_labels=["real"]) == Polarity((0,), (1,))


def test_an_unknown_fake_label_offers_near_names():
    with pytest.raises(ConfigError, match="Did you mean 'artificial'"):
        polarity({0: "artificial", 1: "human"}, fake_labels=["artifical"])


def test_a_number_beyond_the_labels_is_an_error():
    with pytest.raises(ConfigError, match="--fake-label '2' is not one of"):
        polarity({0: "a", 1: "b"}, fake_labels=["2"])


def test_all_labels_named_fake_are_an_error():
    with pytest.raises(ConfigError, match="at least one must mean real"):
        polarity({0: "a", 1: "b"}, fake_labels=["a", "b"])


def test_a_single_output_must_be_named():
    with pytest.raises(ConfigError, match=r"single output 'fake'.*--fake-label 0"):
        polarity({0: "fake"})


def test_a_single_output_that_is_named_is_fake():
    assert polarity({0: "LABEL_0"}, fake_labels=["0"]) == Polarity(real=(), fake=(0,))


def test_label2id_may_hold_text():
    labels = {0: "AiArtData", 1: "RealArt"}
    found = polarity(labels, label2id={"AiArtData": "0", "RealArt": "1"})
    assert found.fake == (0,)


@pytest.mark.parametrize("label2id", [{"real": 1, "fake": 0}, {"real": 0, "fake": 5}])
def test_mappings_that_contradict_each_other_are_an_error(label2id):
    with pytest.raises(ConfigError, match="contradict each other"):
        polarity({0: "real", 1: "fake"}, label2id=label2id)


def test_a_contradiction_is_no_matter_where_the_output_is_given_by_number():
    labels, other = {0: "real", 1: "fake"}, {"real": 1, "fake": 0}
    assert polarity(labels, label2id=other, fake_labels=["1"]).fake == (1,)


def test_a_contradiction_matters_where_the_output_is_given_by_name():
    labels, other = {0: "real", 1: "fake"}, {"real": 1, "fake": 0}
    with pytest.raises(ConfigError, match="contradict each other"):
        polarity(labels, label2id=other, fake_labels=["fake"])


def test_label2id_that_nobody_filled_in_contradicts_nothing():
    labels, other = {0: "real", 1: "fake"}, {"LABEL_0": 0, "LABEL_1": 1}
    assert polarity(labels, label2id=other).fake == (1,)


def test_label2id_with_no_number_is_an_error():
    with pytest.raises(ConfigError, match="'real' the number 'zero'"):
        polarity({0: "real", 1: "fake"}, label2id={"real": "zero", "fake": 1})


def test_the_documentation_lists_every_word():
    text = (Path(__file__).parents[1] / "docs" / "published-labels.md").read_text(encoding="utf-8")
    table = [line for line in text.splitlines() if line.startswith("| ") and line.count(", ") > 20]
    listed = [set(re.findall(r"[a-z0-9]+", line.split("|")[2])) for line in table]
    assert [len(table), listed[0], listed[1] | listed[2]] == [4, REAL, FAKE]
    assert listed[3] == NEUTRAL | {"numbers"}
