import copy

import pytest
import torch
import toys
from mmengine.dist import get_rank
from mmpretrain.models import ClsDataPreprocessor
from ranks import run_on_ranks

from r2kd_mm.distillers import R2KD, LogitDistiller
from r2kd_mm.losses import KLDivergenceLoss
from r2kd_mm.pruning import MagnitudePruner
from r2kd_mm.registry import MODELS
from r2kd_mm.teachers import TeacherEnsemble
from r2kd_mm.teachers.identity import describe, digest_of_weights

PRUNER = dict(type='MagnitudePruner', amount=0.5)
TEACHER = toys.classifier(width=8)


def pair(**fields):
    return dict(teacher=dict(teacher=TEACHER, **fields), pruned=dict(copy_of='teacher', pruner=PRUNER))


def build(members=None, weighting=None, **fields) -> LogitDistiller:
    torch.manual_seed(0)
    teacher = dict(type='TeacherEnsemble', members=members or pair(), weighting=weighting)
    fields = dict(dict(allow_untrained_teacher=True, losses=dict(loss_kd=KLDivergenceLoss())), **fields)
    return MODELS.build(dict(type='LogitDistiller', architecture=toys.classifier(), teacher=teacher, **fields))


def weights_of(network):
    return torch.cat([value.flatten().double() for value in network.state_dict().values()])


class TestMembers:
    def test_learns_from_the_weighted_sum_of_several_teachers_and_copies(self):
        model = build(
            dict(
                teacher=dict(teacher=TEACHER, weight=0.5),
                few=dict(copy_of='teacher', pruner=PRUNER, weight=0.2),
                many=dict(copy_of='teacher', pruner=dict(PRUNER, amount=0.9), weight=0.2),
                other=dict(teacher=toys.classifier(width=6), weight=0.1),
            )
        )
        images, _ = toys.batch()
        each = {name: teacher(images, mode='tensor') for name, teacher in model.teachers.items()}
        assert list(each) == ['teacher', 'few', 'many', 'other']
        expected = 0.5 * each['teacher'] + 0.2 * each['few'] + 0.2 * each['many'] + 0.1 * each['other']
        torch.testing.assert_close(model.teacher_logits(images), expected)

    def test_without_weights_all_have_the_same(self):
        model = build()
        images, _ = toys.batch()
        each = [teacher(images, mode='tensor') for teacher in model.teachers.values()]
        torch.testing.assert_close(model.teacher_logits(images), sum(each) / 2)

    def test_a_copy_is_made_of_the_loaded_and_pruned_weights_wherever_it_stands(self, tmp_path):
        torch.manual_seed(1)
        trained = MODELS.build(TEACHER)
        torch.save(trained.state_dict(), tmp_path / 'teacher.pth')
        model = build(
            dict(
                second=dict(copy_of='first', pruner=dict(PRUNER, amount=0.9)),
                first=dict(copy_of='teacher', pruner=PRUNER),
                same=dict(copy_of='teacher'),
                teacher=dict(teacher=TEACHER, teacher_ckpt=str(tmp_path / 'teacher.pth')),
            ),
            allow_untrained_teacher=False,
        )
        first, _ = MagnitudePruner(0.5)(trained)
        second, _ = MagnitudePruner(0.9)(first)
        expected = dict(second=second, first=first, same=trained, teacher=trained)
        assert list(model.teachers) == list(expected)
        for name, network in expected.items():
            assert torch.equal(weights_of(model.teachers[name]), weights_of(network)), name
        assert model.teachers['same'] is not model.teacher

    def test_a_ready_network_is_pruned_in_a_copy_and_kept_once(self):
        ready = MODELS.build(TEACHER)
        before = weights_of(ready)
        model = build(dict(teacher=dict(teacher=ready), pruned=dict(copy_of='teacher', pruner=PRUNER)))
        assert torch.equal(weights_of(ready), before)
        assert model.teacher is ready
        assert model._loader.ensemble.members['teacher'].teacher is None
        assert model.made_from()['pruned'] == f'copy of teacher pruned by {describe(MagnitudePruner(0.5))}'

    def test_a_member_in_train_mode_normalises_by_the_batch_and_the_others_do_not(self):
        model = build(dict(pair(), live=dict(copy_of='teacher', mode='train'))).train()
        assert [teacher.training for teacher in model.teachers.values()] == [False, False, True]
        model.double()
        assert [teacher.training for teacher in model.teachers.values()] == [False, False, True]

    def test_r2kd_is_the_pair(self):
        images, samples = toys.batch()
        torch.manual_seed(0)
        fields = dict(architecture=toys.classifier(), allow_untrained_teacher=True)
        losses = dict(loss_kd=KLDivergenceLoss())
        r2kd = R2KD(teacher=TEACHER, losses=losses, pruner=PRUNER, augmentation=None, teacher_weight=0.7, **fields)
        members = pair(weight=0.7)
        members['pruned']['weight'] = 0.3
        torch.manual_seed(0)
        ensemble = LogitDistiller(teacher=TeacherEnsemble(members), losses=losses, **fields)
        one, other = r2kd.loss(images, samples), ensemble.loss(images, samples)
        assert {name: value.item() for name, value in one.items()} == {
            name: value.item() for name, value in other.items()
        }

    def test_a_single_teacher_is_an_ensemble_of_one(self):
        model = build(dict(teacher=dict(teacher=TEACHER)))
        images, _ = toys.batch()
        torch.testing.assert_close(model.teacher_logits(images), model.teacher(images, mode='tensor'))
        assert set(model.loss(*toys.batch())) == {'student.loss', 'clean.loss_kd'}


def gradient_of_weights(parts):
    model = build(weighting=dict(type='LearnedWeights'))
    images, samples = toys.batch()
    part = slice(*parts[get_rank()])
    model.loss(images[part], samples[part])['ensemble.loss'].backward()
    return model.weighting.offsets.grad.tolist()


class TestWeighting:
    def test_learned_weights_have_the_gradient_of_the_whole_batch_on_several_processes(self):
        of_ranks = torch.tensor(run_on_ranks(2, gradient_of_weights, [(0, 4), (4, 6)]))
        # DistributedDataParallel takes the mean
        torch.testing.assert_close(of_ranks.mean(dim=0), torch.tensor(gradient_of_weights([(0, 6)])))

    def test_confidence_gives_an_image_to_its_surest_teacher_and_is_logged(self):
        model = build(weighting=dict(type='ConfidenceWeights', tau=1e-6))
        images, samples = toys.batch()
        each = torch.stack([teacher(images, mode='tensor') for teacher in model.teachers.values()])
        probabilities = each.softmax(dim=2)
        surest = (probabilities * probabilities.log()).sum(dim=2).argmax(dim=0)
        expected = torch.stack([each[member, image] for image, member in enumerate(surest)])
        torch.testing.assert_close(model.teacher_logits(images), expected)
        losses = model.loss(images, samples)
        shares = [losses[f'ensemble.weight_{name}'].item() for name in ('teacher', 'pruned')]
        assert shares == pytest.approx(
            [(surest == 0).double().mean().item(), (surest == 1).double().mean().item()], abs=1e-6
        )

    def test_r2kd_mixes_by_confidence_through_one_field(self):
        model = MODELS.build(
            dict(
                type='R2KD',
                architecture=toys.classifier(),
                teacher=TEACHER,
                allow_untrained_teacher=True,
                pruner=PRUNER,
                weighting=dict(type='ConfidenceWeights', tau=0.5),
                losses=dict(loss_kd=KLDivergenceLoss()),
            )
        )
        assert model.weighting.shares.tolist() == [0.7, 1 - 0.7]
        members = torch.stack([model.ask(name, toys.batch()[0]) for name in model.teachers])
        weights = model.weighting(members)
        expected = (weights[:, :, None] * members).sum(dim=0)
        torch.testing.assert_close(model.teacher_logits(toys.batch()[0]), expected.float())
        assert '"tau": "float 0.5"' in model.made_from()['weighting']

    def test_learned_weights_learn_from_the_labels_alone(self):
        model = build(weighting=dict(type='LearnedWeights'))
        losses = model.loss(*toys.batch())
        offsets = model.weighting.offsets
        gradients = {
            name: torch.autograd.grad(value, offsets, retain_graph=True, allow_unused=True)[0]
            for name, value in losses.items()
            if value.requires_grad
        }
        assert {name for name, gradient in gradients.items() if gradient is not None} == {'ensemble.loss'}
        assert gradients['ensemble.loss'].abs().max() > 0
        student = torch.autograd.grad(losses['ensemble.loss'], list(model.architecture.parameters()), allow_unused=True)
        assert all(gradient is None for gradient in student)
        members = torch.stack([teacher(toys.batch()[0], mode='tensor') for teacher in model.teachers.values()])
        labels = torch.cat([sample.gt_label for sample in toys.batch()[1]])
        expected = torch.nn.functional.cross_entropy(members.mean(dim=0), labels)
        torch.testing.assert_close(losses['ensemble.loss'], expected)

    def test_learned_weights_are_trained_saved_and_logged_by_a_runner(self, tmp_path):
        model = build(weighting=dict(type='LearnedWeights'), augmentation=dict(type='CutMix'))
        runner = toys.runner(model, tmp_path)
        runner.train()
        saved = torch.load(tmp_path / 'epoch_1.pth', weights_only=False)['state_dict']
        assert saved['weighting.offsets'].abs().max() > 0
        assert torch.equal(saved['weighting.offsets'], model.weighting.offsets)
        log = next(tmp_path.glob('*/*.log')).read_text()
        assert 'ensemble.weight_teacher: 0.5' in log
        assert 'ensemble.loss' in log

    def test_learned_weights_have_a_gradient_when_nothing_is_distilled(self):
        model = build(weighting=dict(type='LearnedWeights'))
        model.loss(*toys.batch())
        model.distillation_stopped = True
        losses = model.loss(*toys.batch())
        assert set(losses) == {'student.loss', 'ensemble.loss'}
        losses['ensemble.loss'].backward()
        assert model.weighting.offsets.grad.tolist() == [0, 0]

    def test_a_copy_of_the_distiller_has_weights_of_its_own_and_shares_the_teachers(self):
        model = build(weighting=dict(type='LearnedWeights'))
        copied = copy.deepcopy(model)
        with torch.no_grad():
            copied.weighting.offsets[0] += 5
        images, _ = toys.batch()
        assert not torch.equal(copied.teacher_logits(images), model.teacher_logits(images))
        assert copied.teacher is model.teacher

    def test_fixed_weights_are_in_no_checkpoint_and_in_no_log(self):
        model = build()
        assert all(name.startswith('architecture.') for name in model.state_dict())
        assert set(model.loss(*toys.batch())) == {'student.loss', 'clean.loss_kd'}


class TestReplay:
    @pytest.fixture
    def files(self, tmp_path):
        path = tmp_path / 'teacher.pth'
        torch.save(MODELS.build(TEACHER).state_dict(), path)
        return dict(members=pair(teacher_ckpt=str(path)), replay=dict(folder=str(tmp_path / 'store')))

    def test_refuses_what_changes_in_training(self, files):
        with pytest.raises(ValueError, match='do not change in training, unlike those of learned weights'):
            build(weighting=dict(type='LearnedWeights'), **files)
        files['members']['pruned']['mode'] = 'train'
        with pytest.raises(ValueError, match="unlike those of pruned in mode 'train'"):
            build(**files)

    def test_knows_a_ready_network_by_its_settings_and_not_its_weights_alone(self):
        ready = [MODELS.build(TEACHER) for _ in range(2)]
        ready[1].load_state_dict(ready[0].state_dict())
        ready[1].backbone.layer1[0].conv1.padding_mode = 'circular'
        one, other, same = (build(dict(teacher=dict(teacher=network))) for network in (*ready, copy.deepcopy(ready[0])))
        assert one.made_from() == same.made_from()
        assert one.made_from()['teacher'] != other.made_from()['teacher']

    def test_knows_the_weights_at_an_address_and_not_the_address_alone(self, tmp_path, monkeypatch):
        monkeypatch.setattr('torch.hub.get_dir', lambda: str(tmp_path))
        (tmp_path / 'checkpoints').mkdir()
        models = []
        for _ in range(2):
            torch.save(MODELS.build(TEACHER).state_dict(), tmp_path / 'checkpoints' / 'teacher.pth')
            models.append(build(dict(teacher=dict(teacher=TEACHER, teacher_ckpt='https://example.org/teacher.pth'))))
        assert models[0].teacher_digests() == dict(teacher=digest_of_weights(models[0].teacher))
        assert models[0].teacher_digests() != models[1].teacher_digests()
        assert models[0].made_from()['teacher'] != models[1].made_from()['teacher']

    def test_knows_what_the_logits_are_made_from(self, files):
        one, other = (build(weighting=dict(type='ConfidenceWeights', tau=tau), **files) for tau in (1.0, 2.0))
        assert {name for name in one.made_from() if one.made_from()[name] != other.made_from()[name]} == {'weighting'}
        files['members']['pruned']['pruner'] = dict(PRUNER, amount=0.4)
        third = build(weighting=dict(type='ConfidenceWeights', tau=1.0), **files)
        assert {name for name in one.made_from() if one.made_from()[name] != third.made_from()[name]} == {'pruned'}


class TestSlips:
    @pytest.mark.parametrize(
        ('members', 'message'),
        [
            (dict(pair(), a=dict(copy_of='b')), "member 'a' is a copy of 'b', and there is no such member; .*teacher"),
            (dict(pair(), a=dict(copy_of='b'), b=dict(copy_of='a')), 'got a, a copy of b, a copy of a; give one'),
            (dict(pair(), a=dict(copy_of='a')), 'got a, a copy of a; give one'),
            (dict(full=dict(teacher=TEACHER)), "one member must be called 'teacher' and be no copy.* got full"),
            (dict(pair(), a=dict()), "member 'a' needs either a teacher or copy_of"),
            (dict(pair(), a=dict(copy_of='teacher', teacher=TEACHER)), "member 'a' needs either a teacher or copy_of"),
            (dict(pair(), a=dict(copy_of='teacher', teacher_ckpt='x')), "'a' is a copy .* leave out teacher_ckpt"),
            (
                dict(pair(), a=dict(copy_of='teacher', mode='frozen')),
                r"mode of member 'a' must be one of \('eval', 'tr",
            ),
            (dict(pair(), a=dict(copy_of='teacher', weight=2)), r"weight of member 'a' .* in \[0, 1\], got 2"),
            (pair(weight=0.7), 'give a weight to every member or to none; pruned has none'),
            (
                dict(teacher=dict(teacher=TEACHER, weight=0.7), a=dict(copy_of='teacher', weight=0.7)),
                r"must sum to 1, got {'teacher': 0.7, 'a': 0.7}, which sum to 1.4",
            ),
            ({**pair(), 'a loss': dict(copy_of='teacher')}, "identifier without 'loss' in it, got 'a loss'"),
            (
                dict(pair(), small=dict(teacher=toys.classifier(3))),
                "'small' .*num_classes=5 in the student and 3",
            ),
            (dict(pair(), a=dict(copy_of='teacher', pruner=dict(type='Pruner'))), "unknown pruner 'Pruner'"),
            (
                dict(pair(), a=dict(teacher=TEACHER, teacher_ckpt='/no/such.pth')),
                r"'a' of the teachers: .*such.pth",
            ),
        ],
    )
    def test_in_members_are_named_with_their_remedy(self, members, message):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            build(members)

    @pytest.mark.parametrize(
        ('fields', 'message'),
        [
            (dict(members=[TEACHER]), 'members must be a dict of at least one named teacher'),
            (
                dict(members=dict(teacher=dict(teacher=TEACHER, prune=1))),
                "'teacher' must be a dict of .*copy_of",
            ),
            (dict(weighting='learned'), "weighting must be a config dict.type=.*, got 'learned'"),
            (dict(weighting=dict(type='ConfidenceWeights', shares=[1])), 'give each member its weight'),
            (dict(weighting=dict(type='ConfidenceWeights', sharpness=1)), "does not take 'sharpness'"),
            (dict(weighting=dict(type='KLDivergenceLoss')), 'weighting must be a Weighting|does not take'),
        ],
    )
    def test_of_type_are_named(self, fields, message):
        with pytest.raises(TypeError, match=message):
            build(**fields)

    def test_a_checkpoint_beside_the_members_is_refused(self):
        with pytest.raises(ValueError, match=r"got 'x.pth' next to it; set teacher.members.teacher.teacher_ckpt"):
            build(teacher_ckpt='x.pth')

    def test_the_normalisation_of_every_teacher_is_checked(self):
        normalised = dict(type='ClsDataPreprocessor', mean=[1.0], std=[2.0])
        members = dict(pair(), other=dict(teacher=dict(TEACHER, data_preprocessor=normalised)))
        with pytest.raises(ValueError, match=r"member 'other' of the teachers: the teacher was trained on .*\[1.0\]"):
            build(members, data_preprocessor=ClsDataPreprocessor(mean=[0.0], std=[1.0]))

    def test_r2kd_refuses_an_ensemble_and_a_weighting_of_one(self):
        fields = dict(type='R2KD', architecture=toys.classifier(), losses=dict(loss_kd=KLDivergenceLoss()))
        with pytest.raises(ValueError, match='R2KD makes the ensemble .* give the TeacherEnsemble to LogitDistiller'):
            MODELS.build(dict(fields, teacher=dict(type='TeacherEnsemble', members=pair())))
        with pytest.raises(ValueError, match='weighting weighs the teacher and its pruned copy; give a pruner'):
            MODELS.build(dict(fields, teacher=TEACHER, weighting=dict(type='ConfidenceWeights')))


def test_every_teacher_is_scored_and_those_that_are_no_copies_are_judged(tmp_path):
    members = dict(pair(), other=dict(teacher=toys.classifier(width=6)))
    hook = dict(type='TeacherCheckHook', min_teacher_accuracy=100)
    toys.runner(build(members), tmp_path, hooks=[hook]).train()
    log = next(tmp_path.glob('*/*.log')).read_text()
    for name in ('Teacher', 'Pruned', 'Other'):
        assert f'{name}: ' in log
    assert "teacher 'other' scores" in log
    assert "teacher 'pruned' scores" not in log
