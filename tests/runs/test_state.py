"""The digest of a run covers everything that determines its result, and nothing else."""

import pytest
from mmengine.config import ConfigDict
from mmpretrain.datasets import CustomDataset, PackInputs
from short_runs import NETWORK, SHORT, short_run
from toolbox import ROOT

from r2kd_mm.runs import Method, load_config, look_at, plan_runs
from r2kd_mm.runs.state import images_of, settings_digest

KD = str(ROOT / 'configs/kd/kd_res14_res6_digits.py')
ENSEMBLE = dict(type='TeacherEnsemble', members=dict(teacher=dict(teacher=dict(type='ResNet'))), _delete_=True)


@pytest.mark.parametrize('teacher', [{}, {'model.teacher': ENSEMBLE}], ids=['one teacher', 'ensemble'])
def test_the_digest_follows_the_content_of_the_teacher_and_not_its_path(teacher, tmp_path):
    place = 'model.teacher.members.teacher.teacher_ckpt' if teacher else 'model.teacher_ckpt'

    def teach(name: str, content: bytes) -> str:
        (tmp_path / name).write_bytes(content)
        run = plan_runs([Method('kd', KD, {**teacher, place: str(tmp_path / name)})], [0], tmp_path)[0]
        return settings_digest(load_config(run))

    assert teach('a.pth', b'one') == teach('b.pth', b'one')
    assert teach('a.pth', b'one') != teach('a.pth', b'two')


@pytest.mark.parametrize('place', ['load_from', 'model.init_cfg'])
def test_the_digest_follows_the_weights_that_the_student_begins_from(place, tmp_path):
    def begun_from(content: bytes) -> str:
        (tmp_path / 'a.pth').write_bytes(content)
        start = str(tmp_path / 'a.pth')
        value = start if place == 'load_from' else dict(type='Pretrained', checkpoint=start)
        return settings_digest(load_config(plan_runs([Method('a', NETWORK, {place: value})], [0], tmp_path)[0]))

    assert begun_from(b'one') == begun_from(b'one')
    assert begun_from(b'one') != begun_from(b'two')


def test_seeds_have_digests_of_their_own(tmp_path):
    assert settings_digest(load_config(short_run(tmp_path))) != settings_digest(
        load_config(short_run(tmp_path, seed=1))
    )


def test_what_prepares_the_images_of_wrapped_data_sets_is_no_other_set_of_images():
    def joined(root, step, split='val'):
        member = dict(type=CustomDataset, data_root=root, data_prefix=split, pipeline=[dict(type=step)])
        return images_of(ConfigDict(type='ConcatDataset', datasets=[dict(type='RepeatDataset', dataset=member)]))

    assert joined('here', PackInputs) == joined('there', 'PackInputs')
    assert joined('here', PackInputs) != joined('here', PackInputs, split='test')


def test_methods_measured_on_other_images_are_refused(tmp_path):
    plain, subset, tested = (
        Method(name, NETWORK, {**SHORT, **options})
        for name, options in (
            ('plain', {}),
            ('subset', {'val_dataloader.dataset.indices': 100, 'test_dataloader.dataset.indices': 100}),
            ('tested', {'test_dataloader.dataset.indices': 200}),
        )
    )
    for other in (subset, tested):
        with pytest.raises(ValueError, match=f"'{other.name}' is measured on other images than 'plain': .* compare"):
            look_at(plan_runs([plain, other], [0], tmp_path))
    with pytest.raises(ValueError, match='needs a val_dataloader'):
        look_at([short_run(tmp_path, val_dataloader=None, val_cfg=None, val_evaluator=None)])


def test_what_only_watches_a_run_is_not_in_its_digest(tmp_path):
    cfg = load_config(short_run(tmp_path))
    before = settings_digest(cfg)
    assert 'ChanceCheckHook' in str(cfg.default_hooks.pop('chance')['type'])
    assert settings_digest(cfg) == before  # as before version 0.2, which brought it
    cfg.visualizer.vis_backends.append(dict(type='TensorboardVisBackend'))
    assert settings_digest(cfg) == before
    cfg.custom_hooks = cfg.custom_hooks[1:]
    assert settings_digest(cfg) != before
