"""A new calibration from scores: what is fitted, what is refused, and what it says of itself."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from unmask.errors import ConfigError, MetricUndefined, ScoresError
from unmask.evaluate.calibration import fit_temperature, sigmoid
from unmask.evaluate.recalibration import EVEN, Affine, recalibrate
from unmask.evaluate.recalibration_text import card_section, to_text
from unmask.evaluate.table import Scores, data_hash, joined, select, texts

TRUE = Affine(2.5)
"""What the drawn labels follow."""


def table(n: int = 600, *, at: Affine = TRUE, seed: int = 0) -> Scores:
    """Logits around 0, labels that are fake with the probability ``at`` gives them; two sources."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 4, n)
    empty = texts([""] * n)
    names = texts(f"s{number}" for number in range(n))
    return Scores(
        source=names,
        dataset=texts("ab"[number % 2] for number in range(n)),
        generator=empty,
        group=names,
        video=empty,
        split=empty,
        label=(rng.random(n) < at(logits)).astype(np.int8),
        status=texts(["ok"] * n),
        p_fake=sigmoid(logits),
        logit=logits,
        reasons=empty,
        messages=empty,
        sha256=empty,
        elapsed_ms=np.zeros(n),
    )


def of_sources(scores: Scores, real: str, fake: str) -> Scores:
    return replace(scores, dataset=texts(fake if label else real for label in scores.label))


def reals_of(scores: Scores) -> Scores:
    return replace(scores, label=np.zeros(len(scores), np.int8))


def without(scores: Scores, rows: slice, status: str) -> Scores:
    p_fake, logit, statuses = scores.p_fake.copy(), scores.logit.copy(), scores.status.copy()
    p_fake[rows], logit[rows], statuses[rows] = np.nan, np.nan, status
    return replace(scores, p_fake=p_fake, logit=logit, status=statuses)


def test_the_temperature_of_the_labels_is_found() -> None:
    found = recalibrate(table(4000), 1.0, source="mine")
    assert found.after.temperature == pytest.approx(TRUE.temperature, rel=0.1)
    assert (found.method, found.after.bias) == ("temperature", 0.0)


def test_the_present_temperature_is_replaced_not_multiplied() -> None:
    # The logits are before any temperature: it is applied once.
    found = [recalibrate(table(), now, source="mine").after for now in (1.0, 3.0)]
    assert found[0] == found[1]


def test_platts_map_is_a_temperature_and_a_bias() -> None:
    found = recalibrate(table(4000, at=Affine(2.5, -2.0)), 1.0, source="mine", method="platt")
    assert found.after.temperature == pytest.approx(2.5, rel=0.1)
    assert found.after.bias == pytest.approx(-2.0, abs=0.3)


def test_the_maps_are_compared_with_the_present_one_on_groups_not_fitted_to() -> None:
    found = recalibrate(table(), 1.0, source="mine")
    losses = {each.name: each.log_loss for each in found.compared}
    assert list(losses) == ["none", "temperature", "platt", "isotonic"]
    assert losses["temperature"] < losses["none"]


def test_what_is_compared_as_none_has_the_present_temperature() -> None:
    scores = table()
    best = fit_temperature(scores.logit, scores.label)
    none, temperature, *_ = recalibrate(scores, best, source="mine").compared
    assert none.log_loss == pytest.approx(temperature.log_loss, abs=0.01)


def test_points_are_on_the_new_map_and_name_their_data() -> None:
    scores = table()
    found = recalibrate(scores, 1.0, source="mine", target_fprs=(0.1, 0.02))
    p_fake = found.after(scores.logit)
    for outcome, target in zip(found.outcomes, (0.1, 0.02), strict=True):
        point = outcome.point
        assert np.mean(p_fake[scores.label == 0] >= point.fake_at) == outcome.false_alarms <= target
        assert (point.source, point.sha256) == ("mine", data_hash(scores))
        assert (point.n_real, point.n_fake) == (found.n_real, found.n_fake)
        assert point.fpr_low is not None
        assert point.fpr_high is not None
        assert point.fpr_low < outcome.false_alarms < point.fpr_high


def test_points_and_record_name_the_data_sets_of_what_was_fitted_to() -> None:
    scores = of_sources(table(), "a", "a")
    scores.dataset[:200], scores.dataset[200:300] = "my set", "never scored"
    found = recalibrate(without(scores, slice(200, 300), "no_face"), 1.0, source="mine")
    assert {point.datasets for point in found.points} == {("my set", "a")}
    assert found.record()["datasets"] == ["my set", "a"]


def test_an_outcome_counts_what_its_point_does() -> None:
    scores = table()
    (outcome,) = recalibrate(scores, 2.0, source="m", method="none", target_fprs=(0.1,)).outcomes
    p_fake, point = sigmoid(scores.logit / 2), outcome.point
    assert outcome.found == np.mean(p_fake[scores.label == 1] >= point.fake_at)
    between = (p_fake >= point.real_below) & (p_fake < point.fake_at)
    assert outcome.inconclusive == between.mean()


def test_reals_alone_give_points_and_keep_the_map() -> None:
    found = recalibrate(reals_of(table()), 1.7, source="mine")
    assert (found.method, found.before, found.after) == ("none", Affine(1.7), Affine(1.7))
    assert found.outcomes[0].found is None
    assert found.points[0].target_fnr is None
    assert any("reals only" in note for note in found.notes)


@pytest.mark.parametrize("method", ["temperature", "platt"])
def test_a_map_that_is_asked_for_needs_fakes(method: str) -> None:
    with pytest.raises(MetricUndefined, match="needs both classes"):
        recalibrate(reals_of(table()), 1.0, source="mine", method=method)  # type: ignore[arg-type]


def test_fakes_alone_are_refused() -> None:
    scores = table()
    with pytest.raises(MetricUndefined, match="none of the 600 scored items is real"):
        recalibrate(replace(scores, label=np.ones(600, np.int8)), 1.0, source="mine")


def test_too_few_reals_for_a_target_are_refused() -> None:
    with pytest.raises(MetricUndefined, match="needs at least 100 reals"):
        recalibrate(table(60), 1.0, source="mine", target_fprs=(0.01,))


@pytest.mark.parametrize(("sign", "words"), [(1, "apart entirely"), (-1, "the wrong way")])
def test_a_temperature_that_the_data_do_not_determine_is_refused(sign: int, words: str) -> None:
    scores = table()
    apart = replace(scores, logit=sign * (8.0 * scores.label - 4))
    with pytest.raises(MetricUndefined, match=words):
        recalibrate(apart, 1.0, source="mine")


def test_a_map_that_turns_answers_round_is_refused() -> None:
    scores = table()
    with pytest.raises(MetricUndefined, match="reals score above fakes"):
        recalibrate(replace(scores, logit=-scores.logit), 1.0, source="mine", method="platt")


def test_items_without_score_or_label_count_nowhere() -> None:
    scores = without(table(), slice(0, 7), "no_face")
    labels = scores.label.copy()
    labels[10:13] = -1
    found = recalibrate(replace(scores, label=labels), 1.0, source="mine")
    assert found.n_real + found.n_fake == 600 - 7 - 3
    assert found.not_scored == {"no_face": 7}


def test_frames_of_few_videos_are_pointed_out() -> None:
    scores = table()
    grouped = replace(scores, group=texts(f"v{number // 3}" for number in range(600)))
    notes = recalibrate(grouped, 1.0, source="mine").notes
    assert any("too narrow" in note for note in notes)
    assert not recalibrate(scores, 1.0, source="mine").notes


def test_too_few_groups_to_compare_by_are_said() -> None:
    scores = table()
    one = replace(scores, group=np.where(scores.label == 1, "g", scores.group).astype(object))
    found = recalibrate(one, 1.0, source="mine")
    assert found.compared == ()
    assert any("the maps are not compared" in note for note in found.notes)
    assert (found.method, found.after, found.fitted.is_better) == ("none", Affine(1.0), None)
    assert any("cannot be told, so it is not stored" in note for note in found.notes)


def test_a_map_that_is_no_better_on_other_groups_is_not_stored() -> None:
    # The present temperature is that of the labels; one fitted to few of them is worse.
    scores = table(120, seed=3)
    found = recalibrate(scores, TRUE.temperature, source="mine", target_fprs=(0.05,))
    none, temperature, *_ = found.compared
    assert temperature.log_loss > none.log_loss
    assert (found.method, found.after) == ("none", Affine(TRUE.temperature))
    assert (found.fitted.method, found.fitted.is_better) == ("temperature", False)
    assert any("so it is not stored (--force stores it)" in note for note in found.notes)
    assert "temperature 2.5 as before" in to_text(found)
    assert found.record()["fitted"]["is_better"] is False


def test_the_points_of_a_kept_map_are_on_that_map() -> None:
    scores = table(120, seed=3)
    found = recalibrate(scores, TRUE.temperature, source="mine", target_fprs=(0.05,))
    reals = sigmoid(scores.logit[scores.label == 0] / TRUE.temperature)
    assert np.mean(reals >= found.points[0].fake_at) == found.outcomes[0].false_alarms <= 0.05


def test_a_map_that_is_no_better_is_stored_by_force() -> None:
    scores = table(120, seed=3)
    found = recalibrate(scores, 2.5, source="mine", target_fprs=(0.05,), force=True)
    assert found.method == "temperature"
    assert found.after.temperature == found.fitted.temperature != 2.5
    assert any("stored all the same (--force)" in note for note in found.notes)


def test_a_map_that_is_better_is_stored_without_a_note() -> None:
    found = recalibrate(table(), 1.0, source="mine")
    assert (found.method, found.fitted.is_better, found.notes) == ("temperature", True, ())


def repeated(scores: Scores, rows: slice, times: int) -> Scores:
    """The rows again, as other files with the same bytes and in groups of their own."""
    shas = replace(scores, sha256=texts(f"{number:064x}" for number in range(len(scores))))
    again = select(shas, np.tile(np.arange(len(scores))[rows], times))
    names = texts(f"copy{number}" for number in range(len(again)))
    return joined([shas, replace(again, source=names, group=names)])


def test_copies_of_one_file_count_once() -> None:
    scores = table()
    once, often = (
        recalibrate(each, 1.0, source="mine")
        for each in (scores, repeated(scores, slice(0, 5), 50))
    )
    assert once.after == often.after
    assert (often.n_real, often.n_fake, often.n_groups) == (once.n_real, once.n_fake, 600)
    assert often.n_repeated == often.record()["n_repeated"] == 250
    assert any("250 items have the bytes of another one" in note for note in often.notes)


def test_one_real_repeated_is_not_enough_for_a_target() -> None:
    scores = reals_of(table(30))
    many = repeated(scores, slice(0, 1), 200)
    with pytest.raises(MetricUndefined, match="at least 100 reals; 30 are there"):
        recalibrate(many, 1.0, source="mine", target_fprs=(0.01,))


def test_frames_of_few_videos_are_not_enough_for_a_target() -> None:
    scores = reals_of(table())
    grouped = replace(scores, group=texts(f"v{number // 10}" for number in range(600)))
    with pytest.raises(MetricUndefined, match=r"at least 100 groups .*; 600 of 60 are"):
        recalibrate(grouped, 1.0, source="mine", target_fprs=(0.01,))
    assert recalibrate(grouped, 1.0, source="mine", target_fprs=(0.05,)).n_groups == 60


def test_a_file_that_is_real_and_fake_is_refused() -> None:
    scores = repeated(table(), slice(0, 1), 1)
    labels = scores.label.copy()
    labels[-1] = 1 - labels[0]
    with pytest.raises(ScoresError, match="s0 and copy0 are one file"):
        recalibrate(replace(scores, label=labels), 1.0, source="mine")


def test_no_shift_is_the_default() -> None:
    assert recalibrate(table(), 1.0, source="mine").shift is None


def test_a_shift_moves_p_fake_to_the_share_of_the_unlabelled() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 4, 20_000)
    fake = rng.random(20_000) < TRUE(logits)
    kept = ~fake | (rng.random(20_000) < 0.25)  # a quarter of the fakes
    found = recalibrate(table(4000), 1.0, source="mine", unlabelled=logits[kept])
    assert found.shift is not None
    assert found.shift.prior == EVEN
    assert found.shift.estimated == pytest.approx(0.2, abs=0.03)
    assert found.after(logits[kept]).mean() == pytest.approx(0.2, abs=0.03)


def test_a_shift_leaves_the_answers_as_they_are() -> None:
    # Thresholds move with P(fake): what is called fake at a false-positive rate is the same.
    scores, unlabelled = table(), np.random.default_rng(2).normal(-0.7, 4, 1000)
    plain = recalibrate(scores, 1.0, source="mine")
    shifted = recalibrate(scores, 1.0, source="mine", unlabelled=unlabelled)
    assert shifted.after.bias != 0
    assert [each.found for each in shifted.outcomes] == [each.found for each in plain.outcomes]


def test_after_platt_the_shift_is_from_the_share_of_the_data() -> None:
    scores = table(4000, at=Affine(2.5, -4.0))
    found = recalibrate(scores, 1.0, source="m", method="platt", unlabelled=scores.logit)
    assert found.shift is not None
    assert found.shift.prior == pytest.approx(scores.label.mean())
    assert found.shift.bias == pytest.approx(0, abs=0.1)


def test_a_shift_beyond_belief_is_refused() -> None:
    with pytest.raises(MetricUndefined, match="more than another share alone explains"):
        recalibrate(table(), 1.0, source="mine", unlabelled=np.full(300, 30.0))


def test_a_target_that_is_no_rate_is_refused() -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        recalibrate(table(), 1.0, source="mine", target_fprs=(5,))


def test_the_record_is_plain_json() -> None:
    found = recalibrate(table(), 1.0, source="mine")
    record = json.loads(json.dumps(found.record()))
    assert (record["data"], record["sha256"]) == ("mine", found.sha256)
    assert record["cross_validated"][1]["name"] == "temperature"


def test_the_text_has_both_tables() -> None:
    text = to_text(recalibrate(table(), 1.0, source="mine"))
    for words in ("as it was", "isotonic", "log loss", "fpr5", "fpr1", "FPR [95 %]", "stored:"):
        assert words in text
    assert max(map(len, text.splitlines())) <= 100


def test_the_text_of_reals_alone_says_what_is_not_there() -> None:
    text = to_text(recalibrate(reals_of(table()), 1.7, source="mine"))
    assert "n/a" in text
    assert "temperature 1.7 as before" in text
    assert "note: reals only" in text


def test_the_text_says_what_a_shift_did() -> None:
    unlabelled = np.random.default_rng(2).normal(-0.7, 4, 1000)
    found = recalibrate(table(), 1.0, source="mine", unlabelled=unlabelled)
    assert "corrected for a share of fakes of" in to_text(found)


def test_the_card_names_the_data_with_counts_and_hash() -> None:
    found = recalibrate(without(table(), slice(0, 7), "no_face"), 1.0, source="mine")
    card = card_section(found, "unmask calibrate a b")
    assert card.startswith("## Calibration\n")
    assert f"{found.n_real} real and {found.n_fake} fake pictures" in card
    assert "7 more without a score" in card
    assert found.sha256 in card
    assert "unmask calibrate a b" in card
    assert "| `fpr5` (default) |" in card
    assert "| `fpr1` |" in card


HOSTILE = "x</p><script>a</script> [b](http://c) `d` | e & <!-- ![f](g) https://h"


def test_the_name_of_the_data_is_no_markup_in_the_card() -> None:
    card = card_section(recalibrate(table(), 1.0, source=HOSTILE + "\n# I\n\n<b>"), "unmask")
    (line,) = (line for line in card.splitlines() if "Data:" in line)
    for markup in ("<", "[", "]", "`d", "|", "&", "!"):
        assert all(line[at - 1] == "\\" for at in places(line, markup)), markup
    assert "https\\://h" in line
    assert [each for each in card.splitlines() if each.startswith("#")] == ["## Calibration"]


def places(text: str, part: str) -> list[int]:
    return [at for at in range(len(text)) if text.startswith(part, at)]


def test_the_command_does_not_leave_its_block_in_the_card() -> None:
    card = card_section(recalibrate(table(), 1.0, source="mine"), "unmask 'a\n```\n# B' ````")
    assert card.endswith("`````\nunmask 'a\\n```\\n# B' ````\n`````")


def said_of_reals(scores: Scores) -> str:
    """What the notes say of other pictures and of missing fakes."""
    notes = recalibrate(scores, 1.0, source="mine").notes
    return " ".join(each for each in notes if "one source" in each or "without fakes" in each)


@pytest.mark.parametrize("fake", ["a", "b"])
def test_reals_of_one_source_stand_for_pictures_like_these(fake: str) -> None:
    assert said_of_reals(of_sources(table(), "a", fake)) == (
        "all reals are of one source, so the thresholds hold for pictures like these"
    )


def test_without_fakes_nothing_is_said_to_be_known_of_them() -> None:
    assert said_of_reals(reals_of(table())) == (
        "without fakes nothing is known of the share of fakes that is called real"
    )


def test_reals_of_one_source_without_fakes_are_one_sentence() -> None:
    said = said_of_reals(reals_of(of_sources(table(), "a", "a")))
    assert "pictures like these, and without fakes nothing is known" in said


def test_reals_of_two_sources_with_fakes_need_no_such_note() -> None:
    assert said_of_reals(table()) == ""
