"""Write the model card (``README.md``) of an exported student: training data, teacher, method, accuracy and cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from r2kd_mm.checkpoint import AVERAGED
from r2kd_mm.cost import RUNS, count_flops, measure_latency
from r2kd_mm.engine.wrapped_data import innermost_datasets, short_types
from r2kd_mm.environment import processor
from r2kd_mm.export.formats import FLOAT32
from r2kd_mm.export.licence import licence_lines
from r2kd_mm.export.measurement import Measurement
from r2kd_mm.export.snippets import snippet
from r2kd_mm.export.student import Student
from r2kd_mm.teachers.build import RECORD_KEY
from r2kd_mm.version import __version__

MEMBER = ('teacher', 'teacher_ckpt', 'copy_of')  # of an ensemble
UNKNOWN_LICENCE = 'unknown  # of the photos, the teacher and the student: put yours here before you publish them'


def model_card(
    student: Student,
    description: Mapping[str, Any],
    predict: Callable[[Tensor], Tensor],
    difference: float,
    checkpoint: str,
    measured: Measurement | None = None,
) -> str:
    """Return the card in Markdown: use, data, teacher, method, accuracy, versions, size, cost, and all classes.

    The card begins with the metadata block that model hubs read, such as the licence.

    Args:
        student: The exported student.
        description: Content of ``export.json``.
        predict: Exported network, whose latency is measured here.
        difference: Largest difference between the logits of export and student, divided by the largest logit.
        checkpoint: File name of the checkpoint that was exported.
        measured: Effect of a precision below float32 on accuracy, size and time; ``None`` in float32.
    """
    meta = student.checkpoint.get('meta') or {}
    record = meta.get(RECORD_KEY) or {}
    preprocessing = student.preprocessing
    shape = ' x '.join(map(str, preprocessing.shape))
    precision, inside, output = description['precision'], description['inside'], description['output']['name']
    normalise = f'mean {_numbers(preprocessing.mean)}, std {_numbers(preprocessing.std)} (of values 0 to 255)'
    if inside['normalisation'] is not None:
        normalise = 'from 0 to 255; the network normalises them'
    checked = FLOAT32 if measured is None or measured.has_float32 else precision
    rows = {
        'format': f'{description["format"]}, written by r2kd_mm {__version__}; see export.json for preprocessing and '
        'classes',
        'input': f'{shape} pixels, {preprocessing.channel_order}, {normalise}',
        'output': f'{output}{"; softmax is in the network" if inside["softmax"] else ""}',
        'classes': f'{len(student.classes)}: {_some(student.classes)}',
        'network': _network(student),
        **_cost(student, predict),
        **({} if measured is None else _lowered(measured, precision)),
        'checked': f'in {checked}, on {len(student.images)} images: {output} within {difference:.1e} of the largest '
        'one of the student',
    }
    origin = {
        'run': meta.get('experiment_name', 'unknown'),
        'checkpoint': f'{checkpoint}, epoch {meta.get("epoch", "unknown")} of '
        f'{(student.run.get("train_cfg") or {}).get("max_epochs", "unknown")}',
        'weights': _weights(student),
        'method': _method(student.run['model']),
        'teacher': _teacher(student.run['model'], record),
        'data': _data(student.run, record),
        **_accuracies(student.checkpoint),
        'seed': record.get('seed', meta.get('seed', 'unknown')),
        'versions': ', '.join(f'{key} {value}' for key, value in record.get('versions', {}).items() if value)
        or 'unknown',
        'commit': record.get('commit') or 'unknown',
    }
    title = f'{_network(student).split("(")[0]} for {len(student.classes)} classes'
    return (
        f'{_front_matter(description)}\n# {title}\n\n{_table("export", rows)}\n'
        f'## Use it\n\nIn this folder:\n\n```python\n{snippet(description)}```\n\n'
        f'## Where it comes from\n\n{_table("run", origin)}\n'
        f'## Classes\n\n{_listed(student.classes)}\n'
    )


def _front_matter(description: Mapping[str, Any]) -> str:
    """The lines between two rules that model hubs read; nobody but the owner knows the licence."""
    licence = description['license']
    lines = {
        **(dict(license=UNKNOWN_LICENCE) if licence is None else licence_lines(licence)),
        'library_name': 'onnx' if description['format'] == 'onnx' else 'pytorch',
        'pipeline_tag': 'image-classification',
        'tags': '[image-classification, knowledge-distillation, r2kd]',
        'metrics': '[accuracy]',
    }
    return '\n'.join(['---', *(f'{key}: {value}' for key, value in lines.items()), '---', ''])


def _listed(classes: Sequence[str]) -> str:
    return '\n'.join(f'{index}. {name}' for index, name in enumerate(classes))


def _table(head: str, rows: Mapping[str, Any]) -> str:
    lines = [f'| {key} | {str(value).replace("|", chr(92) + "|")} |' for key, value in rows.items()]
    return '\n'.join([f'| {head} | |', '| --- | --- |', *lines, ''])


def _network(student: Student) -> str:
    classifier = student.network.classifier
    config = student.config or {}
    if config.get('backbone') or config.get('model_name'):
        return _call(config.get('backbone') or config)
    return type(getattr(classifier, 'backbone', classifier)).__name__


def _call(config: Mapping[str, Any]) -> str:
    """Write a config as a constructor call, without nested configs."""
    config = short_types(dict(config))
    arguments = [
        f'{key}={Path(value).name if str(value).startswith("/") else value}'  # no folders of this machine
        for key, value in config.items()
        if key != 'type' and not isinstance(value, dict)
    ]
    return f'{config.get("type")}({", ".join(arguments)})'


def _cost(student: Student, predict: Callable[[Tensor], Tensor]) -> dict[str, str]:
    one = student.images[:1]
    parameters = sum(weight.numel() for weight in student.network.parameters())
    flops = count_flops(student.network, one)
    latency = measure_latency(predict, one)
    return {
        'parameters': f'{parameters:,}',
        'FLOPs': f'{flops:,} for an image, as mmengine.analysis counts: a multiply-add is one',
        'latency': f'{latency:.2f} ms for an image, median of {RUNS} calls, {torch.get_num_threads()} threads of '
        f'{processor()}, torch {torch.__version__}',
    }


def _lowered(measured: Measurement, precision: str) -> dict[str, str]:
    """Rows on a precision below float32, each next to float32."""

    def accuracy(name: str) -> str:
        found = measured.accuracy[name]
        return f'{found.top1:.2f} % ({found.low:.1f} to {found.high:.1f})'

    def times(name: str) -> str:
        return ', '.join(f'{value:.2f} ms for {count}' for count, value in measured.milliseconds[name].items())

    rows = {
        'precision': precision
        + (f'; left in float32: {", ".join(measured.in_float32)}' if measured.in_float32 else ''),
        f'accuracy on {measured.num_images} validation images': f'{accuracy(precision)}, in float32 '
        f'{accuracy(FLOAT32)}; in brackets the 95 % interval of that many images',
        'agreement': f'{measured.agreement:.2f} % of them get the same class from both',
        'size': f'{measured.bytes[precision]:,} bytes, in float32 {measured.bytes[FLOAT32]:,}',
        'time of images in one call': times(precision)
        + (f'; in float32 {times(FLOAT32)}' if measured.has_float32 else ''),
    }
    return {**rows, **({'note': '; '.join(measured.notes)} if measured.notes else {})}


def _weights(student: Student) -> str:
    if AVERAGED not in student.checkpoint:
        return 'as trained'
    hooks = student.run.get('custom_hooks') or ()
    validated = all(hook.get('evaluate_on_ema', True) for hook in hooks if isinstance(hook, Mapping))
    return f'averaged by EMAHook, {"as validated" if validated else "while the raw ones were validated"}'


def _method(model: Mapping[str, Any]) -> str:
    model = short_types(dict(model))
    if 'architecture' not in model:
        return 'training on labels, without a teacher'
    losses = [_call(loss) for loss in (model.get('losses') or {}).values() if isinstance(loss, dict)]
    augmentation = model.get('augmentation')
    return '; '.join([model['type'], *losses, *([f'augmented view by {_call(augmentation)}'] if augmentation else [])])


def _teacher(model: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    if 'architecture' not in model:
        return 'none'
    teacher, weights = model.get('teacher'), model.get('teacher_ckpt')
    members = (teacher.get('members') if isinstance(teacher, Mapping) else None) or {
        'teacher': dict(teacher=teacher, teacher_ckpt=weights)
    }
    named = [_member(**{name: member.get(name) for name in MEMBER}) for member in members.values()]
    accuracies = ', '.join(
        f'{key.replace("_", " ")} {value:.2f} %' for key, value in (record.get('teacher_accuracies') or {}).items()
    )
    return ' and '.join(named) + (f'; top-1 accuracy: {accuracies}' if accuracies else '')


def _member(teacher: Any, teacher_ckpt: str | None, copy_of: str | None) -> str:
    if copy_of is not None:
        return f'a copy of {copy_of}'
    if isinstance(teacher, Mapping):
        within = teacher.get('network')  # of AdaptedInputs
        teacher = within if isinstance(within, Mapping) else teacher
        teacher = _call(teacher.get('backbone') or teacher)
    return f'{teacher}, weights {"of its own" if teacher_ckpt is None else Path(teacher_ckpt).name}'


def _data(run: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    dataset = (run.get('train_dataloader') or {}).get('dataset') or {}
    counts = [
        f'{record[key]["images"]} images to {purpose}'
        for key, purpose in (('train_data', 'train'), ('val_data', 'validate'))
        if key in record
    ]
    kinds = dict.fromkeys(str(short_types(dict(inner)).get('type', 'unknown')) for inner in innermost_datasets(dataset))
    return ', '.join([' and '.join(kinds), *counts])


def _accuracies(checkpoint: Mapping[str, Any]) -> dict[str, str]:
    """Return the last and the best value of each accuracy that was measured before the checkpoint."""
    hub = checkpoint.get('message_hub') or {}
    epoch = (hub.get('runtime_info') or {}).get('last_validated_epoch')
    when = f'after epoch {epoch}' if epoch else 'at the last validation'
    rows = {}
    for name, history in (hub.get('log_scalars') or {}).items():
        if name.startswith('val/accuracy/') and len(history.data[0]):
            values = history.data[0]
            rows[name.removeprefix('val/')] = (
                f'{values[-1]:.2f} % {when}, the last one before this checkpoint; best {max(values):.2f} % of '
                f'{len(values)} validations'
            )
    return rows or {'accuracy': 'no validation before this checkpoint'}


def _numbers(values: tuple[float, ...]) -> str:
    return ', '.join(f'{value:g}' for value in values)


def _some(names: tuple[str, ...], shown: int = 5) -> str:
    return ', '.join(names[:shown]) + (', ...' if len(names) > shown else '')
