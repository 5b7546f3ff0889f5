"""Settings that need labels are refused before the first step if some images have none."""

import pytest
import toys

from r2kd_mm.datasets import WithUnlabelled

KL = dict(type='KLDivergenceLoss')
SHARE = dict(type='UnlabelledShareSampler', batch_size=10, share=0.5)


def runner(work_dir, sampler=SHARE, preprocessor=None, classifier=False, val=False, loss=KL, **fields):
    data = WithUnlabelled(toys.Images(20), [toys.Images(30, seed=2)])
    model = toys.classifier()
    if not classifier:
        model = dict(
            type='LogitDistiller',
            architecture=model,
            teacher=toys.classifier(width=8),
            allow_untrained_teacher=True,
            losses=dict(loss_kd=loss),
            data_preprocessor=dict(type='ClsDataPreprocessor', **(preprocessor or {})),
            **fields,
        )
    loader = dict(batch_size=10, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False))
    train = dict(loader, dataset=data, sampler=sampler)
    return toys.runner(
        model,
        work_dir,
        hooks=[dict(type='DataCheckHook'), dict(type='FiniteCheckHook')][: 1 if classifier else 2],
        train_dataloader=dict(train, dataset=toys.Images(20), sampler=loader['sampler']) if val else train,
        val_dataloader=dict(loader, dataset=data if val else toys.Images(10)),
        train_cfg=dict(type='ResumableTrainLoop', max_epochs=1),
    )


def test_a_run_with_a_share_in_each_batch_trains(tmp_path):
    run = runner(tmp_path)
    labels = []
    run.model.register_forward_pre_hook(
        lambda _model, arguments, options: labels.append([int(each.gt_label) for each in options['data_samples']]),
        with_kwargs=True,
    )
    run.train()
    trained = [batch for batch in labels if -1 in batch]
    assert [batch.count(-1) for batch in trained] == [5] * 4


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        (dict(classifier=True), '30 images without labels, and a ImageClassifier learns from labels alone'),
        (dict(val=True), 'val_dataloader has 30 images without labels, and an accuracy needs them all'),
        (dict(loss=dict(type='DKDLoss')), 'loss_kd needs labels; take losses that need none'),
        (dict(sampler=dict(type='DefaultSampler', shuffle=True)), 'DefaultSampler may give a batch without any label'),
        (dict(sampler=dict(SHARE, batch_size=8)), 'its sampler has batch_size=8 while the data loader has batch_size'),
        (dict(preprocessor=dict(to_onehot=True, num_classes=5)), 'to_onehot of the data_preprocessor mixes labels'),
    ],
)
def test_what_needs_labels_is_refused(tmp_path, fields, message):
    run = runner(tmp_path, **fields)
    with pytest.raises(ValueError, match=message):
        run.train()
    assert run.iter == 0
