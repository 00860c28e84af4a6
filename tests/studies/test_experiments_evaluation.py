"""Asking a model everything: the same answers as one question at a time gives."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from vgpo.studies.experiments.evaluation import (
    EVALUATIONS,
    LARGER,
    Evaluation,
    Part,
    evaluate,
    outcomes,
    questions_of,
)
from vgpo.studies.experiments.looking import looking
from vgpo.studies.experiments.starts import WORDINGS, make_start, start_folder
from vgpo.testbed import CHECKPOINTS, WORLDS, load_tiny
from vgpo.testbed.answers import answer, correct
from vgpo.testbed.questions import World

PARTS = (
    Part("sampled", questions=3, samples=2),
    Part("greedy", questions=3, temperature=0.0),
    Part("text greedy", ("text",), 2, 0.0),
    Part("grey", questions=2, temperature=0.0, change="grey"),
)


@pytest.fixture(scope="module", params=list(CHECKPOINTS))
def asked(request):
    model, processor = load_tiny(request.param)
    evaluation = Evaluation(PARTS, max_new_tokens=64, batch_size=5)
    return (
        request.param,
        model,
        processor,
        evaluation,
        *evaluate(model, processor, request.param, evaluation),
    )


def test_greedy_answers_are_those_of_one_question_at_a_time(asked):
    world, model, processor, evaluation, verdicts, texts = asked
    for part in PARTS[1:]:
        mine = verdicts[verdicts["part"] == part.name]
        examples = questions_of(part, world, evaluation.seed)
        theirs = answer(model, processor, examples, max_new_tokens=64)
        assert [texts[row] for row in mine.index] == theirs
        assert mine["right"].tolist() == [
            int(correct(t, e)) for t, e in zip(theirs, examples, strict=True)
        ]
        # Cut off or not, and how long, by the words themselves.
        words = [len(processor.tokenizer(text).input_ids) for text in theirs]
        assert mine["length"].tolist() == words
        assert (mine["ended"] == 1).tolist() == ["\\boxed{" in t and t[-1] == "}"
                                                 for t in theirs]  # fmt: skip


def test_samples_do_not_depend_on_the_batch(asked):
    world, model, processor, evaluation, verdicts, texts = asked
    other = replace(evaluation, batch_size=64, parts=PARTS[:1])
    again, words = evaluate(model, processor, world, other)
    mine = verdicts[verdicts["part"] == "sampled"]
    assert [texts[row] for row in mine.index] == words
    assert mine["right"].tolist() == again["right"].tolist()
    # Two samples of a question are two draws.
    by_sample = [set(again.index[again["sample"] == s]) for s in (0, 1)]
    assert [words[i] for i in by_sample[0]] != [words[i] for i in by_sample[1]]


def test_the_model_and_the_generator_are_left_as_they_were(asked):
    world, model, processor, evaluation, _, _ = asked
    model.train()
    before = torch.random.get_rng_state()
    evaluate(model, processor, world, replace(evaluation, parts=PARTS[1:2]))
    assert model.training
    assert torch.equal(before, torch.random.get_rng_state())
    model.eval()


def test_outcomes_are_shares_by_part_and_family(asked):
    *_, verdicts, _ = asked
    found = outcomes(verdicts)
    mine = verdicts[verdicts["part"] == "sampled"]
    assert found["accuracy/sampled"] == mine["right"].mean()
    sums = mine[mine["family"] == "sum"]
    assert found["accuracy/sampled/sum"] == sums["right"].mean()
    assert found["length/grey"] == verdicts.loc[verdicts["part"] == "grey",
                                                "length"].mean()  # fmt: skip
    assert "accuracy/text greedy/text" not in found


def test_questions_are_held_out_and_changed_as_they_say():
    standard = EVALUATIONS["standard"]
    parts = {part.name: part for part in standard.parts}
    assert len(questions_of(parts["sampled"], "misread", 7)) == 400
    assert parts["sampled"].samples == 4 and parts["sampled"].temperature == 1
    sweep = {p.temperature for p in standard.parts if p.families == ("sum", "count")}
    assert {1.0, 0.8, 0.6, 0.4, 0.0} <= sweep
    for world in WORLDS:
        larger = questions_of(replace(parts["larger"], questions=8), world, 7)
        shipped = {r * c for r, c in WORLDS[world].grids}
        if world == "look_away_large":
            # It has as many tiles as there are colours for: only chains are longer.
            asked_for = [len(e.question.split(":")[-1].split("+")) for e in larger]
            assert min(asked_for[::2]) > WORLDS[world].max_terms
        else:
            assert min(e.rows * e.columns for e in larger) > max(shipped)
        plain = questions_of(replace(parts["sampled"], questions=4), world, 7)
        own = WORLDS[world].examples(4, ("sum", "count"), seed=7, split="heldout")
        assert [e.question for e in plain] == [e.question for e in own]
        for change in ("noise", "patches", "grey"):
            changed = questions_of(replace(parts[change], questions=4), world, 7)
            for one, other in zip(plain, changed, strict=True):
                assert one.question == other.question and one.answer == other.answer
                assert not np.array_equal(one.image, other.image)
    assert set(LARGER) == set(WORLDS)


def test_looking_at_reference_chains():
    model, processor = load_tiny()
    examples = World().examples(3, ("sum", "count"), seed=3, split="heldout")
    answers, found = looking(
        model, processor, examples, [e.completion for e in examples]
    )
    assert answers["right"].tolist() == [1] * 6
    assert answers["reads"].tolist() == [e.reads for e in examples]
    assert answers["length"].tolist() == [len(e.chain) for e in examples]
    assert found["looking/looks"] == found["looking/reads_right"] == 1
    # Reads look at the picture, and at the right tile of it.
    at_reads = found["looking/image_at_reads"]
    assert at_reads > 2 * found["looking/image_first_half"]
    assert 0.5 * at_reads < found["looking/tile_at_reads"] <= at_reads
    assert found["looking/auroc_prediction"] > 0.9 > found["looking/auroc_token"]


@pytest.mark.slow
def test_a_start_in_other_words(tmp_path):
    """Few steps teach the wording, and leave what the model can do."""
    examples = World().examples(8, ("text",), seed=5, split="heldout")
    make_start("misread", "wordy", tmp_path / "start", steps=12)
    model, processor = load_tiny(tmp_path / "start")
    shipped, _ = load_tiny()

    def length(which):
        texts = answer(which, processor, examples, 1.0, max_new_tokens=60)
        return np.mean([len(processor.tokenizer(t).input_ids) for t in texts])

    assert length(model) > length(shipped)
    make_start("misread", "wordy", tmp_path / "again", steps=12)
    files = [tmp_path / name / "model.safetensors" for name in ("start", "again")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_starts_are_where_they_are_looked_for(tmp_path):
    assert (start_folder("misread", "shipped", tmp_path) / "config.json").exists()
    assert start_folder("misread", "wordy", tmp_path) == tmp_path / "misread-wordy"
    assert WORDINGS["terse"] == 0 < WORDINGS["wordy"]
