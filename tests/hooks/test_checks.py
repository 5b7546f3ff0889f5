from types import SimpleNamespace

import pytest
import torch
import toys
from mmengine.dist import get_rank
from ranks import run_on_ranks

from r2kd_mm.hooks import TeacherCheckHook
from r2kd_mm.published import TEACHERS, PublishedTeacher


@pytest.fixture(scope='module')
def teacher_ckpt(tmp_path_factory):
    """A teacher that has learnt the toy images."""
    work_dir = tmp_path_factory.mktemp('teacher')
    runner = toys.runner(toys.classifier(width=8), work_dir, epochs=8, train_data=toys.Images(200))
    runner.train()
    path = work_dir / 'teacher.pth'
    torch.save(runner.model.state_dict(), path)
    return str(path)


def distiller(**fields):
    return dict(
        dict(
            type='R2KD',
            architecture=toys.classifier(),
            teacher=toys.classifier(width=8),
            pruner=dict(type='MagnitudePruner', amount=0.3),
            losses=dict(loss_value=dict(type='CorrelationDistanceLoss')),
        ),
        **fields,
    )


def logged(work_dir):
    return next(work_dir.glob('*/*.log')).read_text()


class TestTeacherCheck:
    def test_logs_the_accuracy_of_both_teachers_before_the_first_step(self, tmp_path, teacher_ckpt):
        validation = toys.Images(64, seed=5)
        runner = toys.runner(
            distiller(teacher_ckpt=teacher_ckpt), tmp_path, val_data=validation, hooks=[dict(type='TeacherCheckHook')]
        )
        correct = {}
        labels = torch.tensor([int(sample.gt_label) for sample in validation.samples])
        for name, teacher in runner.model.teachers.items():
            with torch.no_grad():
                correct[name] = (teacher(validation.inputs).argmax(dim=1) == labels).float().mean().item() * 100
        runner.train()
        log = logged(tmp_path)
        assert f'Teacher: {correct["teacher"]:.2f} % top-1 on 64 images of the validation set' in log
        assert f'Pruned teacher: {correct["pruned_teacher"]:.2f} % top-1 on 64 images' in log
        assert log.index('top-1 on 64 images') < log.index('Epoch(train)')

    def test_scores_as_many_batches_as_asked(self, tmp_path, teacher_ckpt):
        runner = toys.runner(
            distiller(teacher_ckpt=teacher_ckpt), tmp_path, hooks=[dict(type='TeacherCheckHook', num_batches=2)]
        )
        runner.train()
        assert 'top-1 on 20 images' in logged(tmp_path)
        # nobody can take it for that of the whole set
        assert runner.message_hub.runtime_info['teacher_accuracies'] == {}
        assert 'teacher/accuracy' not in ''.join(path.read_text() for path in tmp_path.glob('*/vis_data/*.json'))

    def test_stops_below_the_minimum(self, tmp_path, teacher_ckpt):
        runner = toys.runner(
            distiller(teacher_ckpt=teacher_ckpt),
            tmp_path,
            val_data=toys.Images(40, seed=2),
            hooks=[dict(type='TeacherCheckHook', min_teacher_accuracy=100.0)],
        )
        wrong = runner.val_dataloader.dataset.samples[0]
        wrong.set_gt_label((wrong.gt_label + 1) % 5)
        with pytest.raises(ValueError, match=r'scores \S+ % on 40 images .* below min_teacher_accuracy=100.0'):
            runner.train()
        assert runner.iter == 0

    def test_stops_when_the_accuracy_is_not_the_published_one(self, tmp_path, teacher_ckpt, monkeypatch):
        hook = dict(type='TeacherCheckHook', published='toy/teacher', tolerance=3)
        monkeypatch.setitem(TEACHERS, 'toy/teacher', PublishedTeacher(100.0, 40, 'a paper'))
        toys.runner(distiller(teacher_ckpt=teacher_ckpt), tmp_path / 'as_published', hooks=[hook]).train()
        monkeypatch.setitem(TEACHERS, 'toy/teacher', PublishedTeacher(90.0, 40, 'a paper'))
        runner = toys.runner(distiller(teacher_ckpt=teacher_ckpt), tmp_path / 'off', hooks=[hook])
        with pytest.raises(ValueError, match=r'but 90.0 % are published \(a paper\), and the tolerance is 3'):
            runner.train()
        monkeypatch.setitem(TEACHERS, 'toy/teacher', PublishedTeacher(90.0, 10_000, 'a paper'))
        toys.runner(distiller(teacher_ckpt=teacher_ckpt), tmp_path / 'part', hooks=[hook]).train()
        assert 'are of 10000 images, so they are not compared' in logged(tmp_path / 'part')

    def test_stops_at_chance_level(self, tmp_path):
        untrained = toys.runner(distiller(allow_untrained_teacher=True), tmp_path).model.teacher
        torch.save(untrained.state_dict(), tmp_path / 'untrained.pth')
        runner = toys.runner(
            distiller(teacher_ckpt=str(tmp_path / 'untrained.pth')), tmp_path, hooks=[dict(type='TeacherCheckHook')]
        )
        with pytest.raises(ValueError, match=r'no better than guessing among 5 classes .* check that teacher_ckpt'):
            runner.train()

    def test_only_warns_of_chance_level_where_an_untrained_teacher_is_wanted(self, tmp_path):
        runner = toys.runner(distiller(allow_untrained_teacher=True), tmp_path, hooks=[dict(type='TeacherCheckHook')])
        runner.train()
        assert 'Trained on because of allow_untrained_teacher=True' in logged(tmp_path)
        assert runner.epoch == 1

    def test_says_so_when_there_is_nothing_to_score_on(self, tmp_path, teacher_ckpt):
        without = dict(val_dataloader=None, val_cfg=None, val_evaluator=None)
        toys.runner(
            distiller(teacher_ckpt=teacher_ckpt), tmp_path, hooks=[dict(type='TeacherCheckHook')], **without
        ).train()
        assert 'The teacher was not scored: this run has no validation set' in logged(tmp_path)
        with pytest.raises(ValueError, match='min_teacher_accuracy needs a validation set'):
            toys.runner(
                distiller(teacher_ckpt=teacher_ckpt),
                tmp_path,
                hooks=[dict(type='TeacherCheckHook', min_teacher_accuracy=50)],
                **without,
            ).train()

    @pytest.mark.parametrize(
        ('fields', 'message'),
        [
            (dict(min_teacher_accuracy=101), 'in percent, 0 to 100, got 101'),
            (dict(num_batches=0), 'num_batches must be at least 1'),
            (dict(tolerance=0), 'tolerance is in percent points'),
            (dict(published='cifar100/resnet57'), "no published accuracy of 'cifar100/resnet57'"),
        ],
    )
    def test_refuses_numbers_out_of_range(self, fields, message):
        with pytest.raises(ValueError, match=message):
            TeacherCheckHook(**fields)


class TestDataCheck:
    @pytest.mark.parametrize('loader', ['train', 'val'])
    def test_refuses_another_number_of_classes(self, tmp_path, loader):
        runner = toys.runner(
            toys.classifier(),
            tmp_path,
            hooks=[dict(type='DataCheckHook')],
            **{f'{loader}_data': toys.Images(num_classes=4)},
        )
        with pytest.raises(ValueError, match=f'{loader}_dataloader has 4 classes, .* num_classes=5'):
            runner.train()

    def test_refuses_validation_images_of_classes_in_another_order(self, tmp_path):
        shuffled = toys.Images()
        shuffled.metainfo = dict(classes=tuple(reversed(shuffled.metainfo['classes'])))
        runner = toys.runner(toys.classifier(), tmp_path, hooks=[dict(type='DataCheckHook')], val_data=shuffled)
        message = "train_dataloader and val_dataloader do not have .* number 0 is 'row 0' in the first and 'row 4' in"
        with pytest.raises(ValueError, match=message):
            runner.train()
        assert runner.iter == 0

    @pytest.mark.parametrize(
        ('fields', 'head', 'message'),
        [
            (dict(val_evaluator=dict(type='Accuracy', topk=(1, 6))), {}, 'val_evaluator measures .* the 6 most likely'),
            (
                dict(val_evaluator=[dict(type='MultiLabelMetric', topk=7), dict(type='Accuracy')]),
                {},
                'val_evaluator measures .* the 7 most',
            ),
            ({}, dict(cal_acc=True, topk=(1, 6)), 'the head of the model measures .* the 6 most'),
        ],
        ids=['accuracy', 'labels', 'head'],
    )
    def test_refuses_an_accuracy_among_more_classes_than_there_are(self, tmp_path, fields, head, message):
        model = toys.classifier()
        model['head'].update(head)
        runner = toys.runner(model, tmp_path, hooks=[dict(type='DataCheckHook')], **fields)
        with pytest.raises(ValueError, match=f'{message} .* the head has 5; .* numbers up to 5'):
            runner.train()
        assert runner.iter == 0

    def test_refuses_it_before_a_test_too(self, tmp_path):
        loader = dict(dataset=toys.Images(), batch_size=10, sampler=dict(type='DefaultSampler', shuffle=False))
        fields = dict(test_dataloader=loader, test_cfg=dict(), test_evaluator=dict(type='Accuracy', topk=(1, 6)))
        runner = toys.runner(toys.classifier(), tmp_path, hooks=[dict(type='DataCheckHook')], **fields)
        with pytest.raises(ValueError, match='test_evaluator measures the accuracy among the 6 most likely classes'):
            runner.test()

    def test_an_accuracy_among_all_classes_passes(self, tmp_path):
        evaluator = dict(type='Accuracy', topk=(1, toys.NUM_CLASSES))
        runner = toys.runner(toys.classifier(), tmp_path, hooks=[dict(type='DataCheckHook')], val_evaluator=evaluator)
        runner.train()
        assert runner.message_hub.get_scalar('val/accuracy/top5').current() == 100

    @pytest.mark.parametrize('split', ['train', 'val'])
    def test_refuses_several_labels_of_an_image_to_distil_on(self, tmp_path, split):
        model = distiller(allow_untrained_teacher=True)
        hooks = [dict(type='DataCheckHook')]
        runner = toys.runner(model, tmp_path, hooks=hooks, **{f'{split}_data': LabelledImages([0, 4])})
        with pytest.raises(ValueError, match=rf'{split}_dataloader: sample 7 has the labels \[0, 4\]; logit distil'):
            runner.train()
        assert runner.iter == 0

    @pytest.mark.parametrize(
        ('shares', 'message'),
        [
            ([1.0, 0, 1, 0, 0], 'sums to 2 with 0 as'),
            ([0.0, 0, 0, 0, 0], 'sums to 0 with 0 as'),
            ([1.5, -0.5, 0, 0, 0], 'sums to 1 with -0.5 as'),
        ],
        ids=str,
    )
    def test_refuses_labels_that_are_no_distribution_also_without_validation(self, tmp_path, shares, message):
        runner = toys.runner(
            distiller(allow_untrained_teacher=True, losses=dict(loss_kd=dict(type='DKDLoss'))),
            tmp_path,
            hooks=[dict(type='DataCheckHook')],
            train_data=ScoredImages(shares),
            **dict.fromkeys(('val_dataloader', 'val_cfg', 'val_evaluator')),
        )
        with pytest.raises(ValueError, match=f'image 0 of a batch has a gt_score that {message} the smallest share'):
            runner.train()
        assert runner.iter == 0

    def test_lets_soft_labels_pass(self, tmp_path):
        data = ScoredImages([0.5, 0.25, 0.25, 0, 0])
        model = distiller(allow_untrained_teacher=True)
        runner = toys.runner(model, tmp_path, hooks=[dict(type='DataCheckHook')], train_data=data)
        runner.train()
        assert runner.epoch == 1

    def test_lets_a_good_run_pass(self, tmp_path):
        runner = toys.runner(distiller(allow_untrained_teacher=True), tmp_path, hooks=[dict(type='DataCheckHook')])
        runner.train()
        assert runner.epoch == 1

    @pytest.mark.parametrize('split', ['train', 'val'])
    def test_refuses_a_label_beyond_the_head(self, tmp_path, split):
        runner = toys.runner(
            toys.classifier(),
            tmp_path,
            hooks=[dict(type='DataCheckHook')],
            **{f'{split}_data': LabelledImages(label=5)},
        )
        with pytest.raises(
            ValueError, match=f'{split}_dataloader has a label out of range: sample 7 has the label 5, .*0 to 4'
        ):
            runner.train()
        assert runner.iter == 0

    @pytest.mark.parametrize('label', [4, [0, 4], torch.tensor(3)], ids=str)
    def test_lets_labels_within_the_head_pass(self, tmp_path, label):
        runner = toys.runner(
            toys.classifier(), tmp_path, hooks=[dict(type='DataCheckHook')], train_data=LabelledImages(label)
        )
        runner.train()
        assert runner.epoch == 1

    def test_the_images_left_out_are_counted_after_each_epoch_and_the_run(self, tmp_path):
        dataset = SkippingImages()
        runner = toys.runner(
            toys.classifier(), tmp_path, hooks=[dict(type='DataCheckHook')], train_data=dataset, epochs=2
        )
        runner.message_hub.update_info('skipped_images', 100)  # as a resumed run has it
        runner.train()
        step = runner.train_dataloader.dataset.pipeline.transforms[1]
        assert step.num_skipped == 80
        assert runner.message_hub.get_info('skipped_images') == 180
        log = logged(tmp_path)
        assert 'Broken images left out in epoch 1: 40; in this run so far: 140.' in log
        assert 'Broken images left out in epoch 2: 40; in this run so far: 180.' in log
        assert 'Broken images left out in this run: 180.' in log

    def test_the_images_that_all_processes_leave_out_are_counted_together(self, tmp_path):
        assert run_on_ranks(2, count_on_this_rank, str(tmp_path)) == [40, 40]

    def test_says_nothing_of_images_left_out_where_none_can_be(self, tmp_path):
        toys.runner(toys.classifier(), tmp_path, hooks=[dict(type='DataCheckHook')]).train()
        assert 'left out' not in logged(tmp_path)

    def test_refuses_a_validation_set_that_leaves_images_out(self, tmp_path):
        runner = toys.runner(toys.classifier(), tmp_path, hooks=[dict(type='DataCheckHook')], val_data=SkippingImages())
        with pytest.raises(ValueError, match="val_dataloader must score every image.*take broken='skip' out of it"):
            runner.train()


class LabelledImages(toys.Images):
    """Tells its labels, of which the one of sample 7 is given."""

    def __init__(self, label):
        super().__init__()
        self.label = label

    def get_data_info(self, index):
        return dict(gt_label=self.label if index == 7 else 0)


class ScoredImages(toys.Images):
    """Computes the same shares of the classes for each image."""

    def __init__(self, shares):
        super().__init__()
        for sample in self.samples:
            sample.set_gt_score(torch.tensor(shares))


class SkippingImages(toys.Images):
    """Counts every image as one that stands for a broken one; has its pipeline two wrappers deep."""

    def __init__(self):
        super().__init__()
        self.step = SimpleNamespace(num_skipped=0)
        inner = SimpleNamespace(pipeline=SimpleNamespace(transforms=[object(), self.step]))
        self.dataset = SimpleNamespace(datasets=[inner])
        self.pipeline = inner.pipeline

    def __getitem__(self, index):
        self.step.num_skipped += 1
        return super().__getitem__(index)


def count_on_this_rank(folder):
    """Return the message hub of a process that sees half of 40 images."""
    without_validation = dict(val_dataloader=None, val_cfg=None, val_evaluator=None)
    runner = toys.runner(
        toys.classifier(),
        f'{folder}/{get_rank()}',
        hooks=[dict(type='DataCheckHook')],
        train_data=SkippingImages(),
        **without_validation,
    )
    runner.train()
    assert runner.train_dataloader.dataset.step.num_skipped == 20
    return runner.message_hub.get_info('skipped_images')
