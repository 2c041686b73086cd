"""The table of victims by shadow architectures, from records."""

import dataclasses

import pytest
from record_samples import attack_sample

from suite.cli import main
from suite.records import write_record
from suite.render import GRID_FORMATS
from suite.transfer import CAPTION, transfer_grids


def cell(victim, defense, shadow, shift, seed=0, measure=None):
    measure = measure or f"shadow_{shadow}"
    record, scores = attack_sample(defense, measure, shift, victim=victim, policy="probs", seed=seed)
    place = dataclasses.replace(record.cell, measure_spec=f"shadow[model={shadow}]")
    info = dataclasses.replace(record.attack, shadow_architecture=shadow)
    return dataclasses.replace(record, cell=place, attack=info), scores


CELLS = [
    cell("alexnet", "vanilla", "alexnet", 2.0),
    cell("alexnet", "vanilla", "vgg7", 1.0),
    cell("alexnet", "depthwise_quant_all_probs", "alexnet", 1.5),
    cell("vgg7", "vanilla", "alexnet", 0.5),
    cell("vgg7", "vanilla", "vgg7", 1.8),
]


def one_grid(records, metric="balanced_accuracy"):
    (grid,) = transfer_grids(records, "shadow", metric)
    return grid


def test_victims_stand_in_rows_and_shadow_architectures_in_columns():
    grid = one_grid([record for record, _ in CELLS])
    assert grid.headers == ("victim", "defense", "alexnet\nshadows", "vgg7\nshadows")
    names = [(row[0].value, row[1].value) for row in grid.rows]
    assert names == [("alexnet", "vanilla"), ("alexnet", "depthwise_quant_all_probs"), ("vgg7", "vanilla")]
    for row, shown in zip(grid.rows, (CELLS[:2], CELLS[2:3], CELLS[3:]), strict=True):
        for text, (record, _) in zip(row[2:], shown, strict=False):
            assert text.value.strip(" *") == f"{record.attack.metrics.balanced_accuracy.value:.3f}"
    assert [text.value[-1] for row in grid.rows for text in row[2:]] == ["*", " ", " ", "-", " ", "*"]
    assert "balanced accuracy of shadow on cifar10 (quick, board emulated)" in grid.title


def test_other_attacks_and_attacks_without_models_do_not_count():
    lira = attack_sample(attack="lira", policy="probs")[0]
    record = CELLS[0][0]
    bare = dataclasses.replace(record, attack=dataclasses.replace(record.attack, shadow_architecture=None))
    assert list(transfer_grids([lira, bare], "shadow", "auc")) == []


def test_an_architecture_by_two_names_counts_once_and_seeds_are_averaged():
    same = cell("alexnet", "vanilla", "alexnet", 2.0, measure="shadow")[0]
    twice = one_grid([CELLS[0][0], same], "auc")
    assert twice.rows == one_grid([CELLS[0][0]], "auc").rows
    seeds = [CELLS[0][0], cell("alexnet", "vanilla", "alexnet", 2.0, seed=1)[0]]
    mean = sum(record.attack.metrics.auc.value for record in seeds) / 2
    assert one_grid(seeds, "auc").rows[0][2].value.strip(" *") == f"{mean:.3f}"


@pytest.mark.parametrize("form", sorted(GRID_FORMATS))
def test_the_command_prints_what_the_records_give(tmp_path, capsys, form):
    for record, scores in CELLS:
        write_record(tmp_path, record, scores)
    assert main(["transfer", str(tmp_path), "--metric", "auc", "--format", form]) == 0
    said = capsys.readouterr().out
    assert "AUC of shadow on cifar10" in said
    assert f"{CELLS[0][0].attack.metrics.auc.value:.3f}*" in said.replace("\\", "")
    assert CAPTION.split(":")[0] in said


def test_without_records_it_says_how_to_get_some(tmp_path, capsys):
    assert main(["transfer", str(tmp_path)]) == 1
    assert 'run pytest suite --attacks "shadow[model=alexnet]' in capsys.readouterr().err
