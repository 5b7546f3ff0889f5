"""Exactly the combinations of settings in the table are refused, and the documents show the same table."""

import itertools
from pathlib import Path

import pytest
import toolbox
import torch
import toys

from r2kd_mm.distillers.combinations import FORBIDDEN, FORBIDDEN_IN_R2KD, as_markdown
from r2kd_mm.registry import MODELS

MEMBERS = dict(
    teacher=dict(teacher=dict(toys.classifier(), _scope_='r2kd_mm')),
    copy=dict(copy_of='teacher', pruner=dict(type='MagnitudePruner')),
)


def features():
    tap = dict(map=dict(type='ModuleOutputs', source='backbone.layer2.1.bn2'))
    mapping = {
        side: dict(recorder='map', from_student=side == 's_feature', connector=None)
        for side in ('s_feature', 't_feature')
    }
    return dict(
        type='ConfigurableDistiller',
        student_recorders=tap,
        teacher_recorders=tap,
        distill_losses=dict(loss_map=dict(type='L2Loss', normalize=False)),
        loss_forward_mappings=dict(loss_map=mapping),
    )


def members(**copy_fields):
    return dict(type='TeacherEnsemble', members=dict(MEMBERS, copy=dict(MEMBERS['copy'], **copy_fields)))


# settings by name; the fields of two settings are joined
SETTINGS = dict(
    replay=lambda folder: dict(replay=dict(folder=folder)),
    top_k=lambda folder: dict(replay=dict(folder=folder, top_k=2)),
    features=lambda folder: dict(features=features()),
    joint_views=lambda folder: dict(joint_views=True),
    compile_student=lambda folder: dict(compile_student=True),
    consistency=lambda folder: dict(consistency=dict(type='KLDivergenceLoss')),
    labelled_consistency=lambda folder: dict(consistency=dict(type='DKDLoss')),
    cutout=lambda folder: dict(augmentation=dict(type='Cutout', length=3)),
    cutmix=lambda folder: dict(augmentation=dict(type='CutMix')),
    pick=lambda folder: dict(augmentation=dict(type='CutMixPick')),
    batch_augments=lambda folder: dict(
        data_preprocessor=dict(
            type='mmpretrain.ClsDataPreprocessor',
            num_classes=toys.NUM_CLASSES,
            batch_augments=dict(augments=[dict(type='mmpretrain.Mixup', alpha=1.0)]),
        )
    ),
    rank_loss=lambda folder: dict(losses=dict(loss_rank=dict(type='RankDistanceLoss'))),
    learned=lambda folder: dict(teacher=dict(members(), weighting=dict(type='LearnedWeights'))),
    train_mode=lambda folder: dict(teacher=members(mode='train')),
)
# worked out by hand: the pairs of these settings that are refused
REFUSED = {
    *(frozenset(['replay', other]) for other in ('features', 'pick', 'batch_augments', 'learned', 'train_mode')),
    *(
        frozenset(['top_k', other])
        for other in ('features', 'pick', 'batch_augments', 'learned', 'train_mode', 'rank_loss')
    ),
    *(frozenset(['features', other]) for other in ('joint_views', 'compile_student')),
    *(frozenset(['consistency', other]) for other in SETTINGS if other not in ('cutout', 'labelled_consistency')),
    *(frozenset(['labelled_consistency', other]) for other in SETTINGS if other != 'consistency'),
}


def build(**fields):
    torch.manual_seed(0)
    base = dict(
        type='LogitDistiller',
        architecture=toys.classifier(),
        teacher=toys.classifier(),
        allow_untrained_teacher=True,
        losses=dict(loss_kd=dict(type='KLDivergenceLoss')),
    )
    return MODELS.build(dict(base, **fields))


def answer(folder, *names) -> str | None:
    """The message that refuses these settings, up to what it names; ``None`` if they are accepted."""
    fields = {}
    for name in names:
        fields.update(SETTINGS[name](folder))
    try:
        build(**fields)
    except ValueError as error:
        found = [row.message for row in FORBIDDEN if str(error).startswith(row.message.split('{')[0])]
        return found[0] if found else f'not of the table: {error}'
    return None


@pytest.fixture(scope='module')
def answers(tmp_path_factory):
    """For all pairs of settings of different fields, what :func:`answer` gives."""
    folder = str(tmp_path_factory.mktemp('store'))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.Module, 'compile', lambda self: None)  # takes seconds, and nothing runs here
        return {
            frozenset([first, second]): answer(folder, first, second)
            for first, second in itertools.combinations(SETTINGS, 2)
            if not SETTINGS[first]('').keys() & SETTINGS[second]('').keys()
        }


def test_the_pairs_that_are_refused_are_those_worked_out_by_hand(answers):
    assert {pair for pair, message in answers.items() if message} == REFUSED & answers.keys()


def test_every_row_of_the_table_refuses_a_pair(answers):
    assert set(filter(None, answers.values())) == {row.message for row in FORBIDDEN}


@pytest.mark.parametrize('name', [name for name in SETTINGS if 'consistency' not in name])
def test_each_setting_alone_is_accepted(tmp_path, monkeypatch, name):
    monkeypatch.setattr(torch.nn.Module, 'compile', lambda self: None)
    assert answer(str(tmp_path), name) is None


def test_the_documents_show_the_table():
    text = Path(toolbox.ROOT, 'docs', 'checks.md').read_text()
    assert as_markdown(FORBIDDEN + FORBIDDEN_IN_R2KD) in text
