import pytest
import torch
import toys

DISTILLER = dict(
    type='LogitDistiller',
    architecture=toys.classifier(),
    teacher=toys.classifier(),
    allow_untrained_teacher=True,
    augmentation=dict(type='Cutout', length=3),
    losses=dict(loss_kd=dict(type='KLDivergenceLoss')),
)
HOOK = dict(type='FiniteCheckHook')


class BrokenImages(toys.Images):
    """One image is NaN from the third batch of 10 on."""

    def __getitem__(self, index):
        item = super().__getitem__(index)
        if index == 25:
            item['inputs'] = torch.full_like(item['inputs'], torch.nan)
        return item


def in_order(dataset):
    return dict(dataset=dataset, batch_size=10, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False))


def test_stops_with_the_state_before_the_step(tmp_path):
    runner = toys.runner(DISTILLER, tmp_path / 'broken', hooks=[HOOK], train_dataloader=in_order(BrokenImages()))
    with pytest.raises(ValueError, match='the gradient of iteration 3 is not finite') as error:
        runner.train()
    for logits in ('student logits of the clean', 'teacher logits of the clean', 'student logits of the augmented'):
        assert logits in str(error.value)

    saved = torch.load(tmp_path / 'broken' / 'before_non_finite_iter_3.pth', weights_only=False)['state_dict']
    assert all(value.isfinite().all() for value in saved.values())
    two_steps = toys.runner(
        DISTILLER, tmp_path / 'whole', train_dataloader=in_order(torch.utils.data.Subset(toys.Images(), range(20)))
    )
    two_steps.train()
    for name, value in two_steps.model.state_dict().items():
        assert torch.equal(saved[name], value), name


def test_names_the_network_that_went_wrong(tmp_path):
    runner = toys.runner(DISTILLER, tmp_path, hooks=[HOOK])
    with torch.no_grad():
        runner.model.teacher.backbone.conv1.weight.fill_(torch.inf)
    with pytest.raises(
        ValueError,
        match='nor are the teacher logits of the clean images and the teacher logits of '
        'the augmented images. The state',
    ):
        runner.train()


def test_leaves_a_healthy_run_as_it_is(tmp_path):
    states = []
    for name, hooks in (('with', [HOOK]), ('without', [])):
        runner = toys.runner(DISTILLER, tmp_path / name, hooks=hooks)
        runner.train()
        states.append(runner.model.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
