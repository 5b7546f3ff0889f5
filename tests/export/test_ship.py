"""Students are exported to several targets; each file is measured, and one is recommended."""

import json

import exports
import onnxruntime
import pytest
import toolbox
import torch

from r2kd_mm.export.measurement import Accuracy, Measurement
from r2kd_mm.export.ship import Choice, Shipped, Target, draw_front, find_students, ship


def choice(top1, size, time, gains=(), target='onnx-int8'):
    return Choice('a', target, f'{top1}', top1, top1 - 1, top1 + 1, 99.0, size, {1: time, 32: 9 * time}, gains)


def test_the_front_leaves_out_what_another_file_beats_and_the_fastest_good_one_is_recommended():
    accurate, small, beaten = choice(90, 400, 2.0), choice(89.2, 100, 1.0), choice(89.2, 101, 1.0)
    shipped = Shipped((accurate, small, beaten), {'a as onnx-fp16': 'it overflows'}, max_drop=1)
    assert shipped.front == (small, accurate)
    assert shipped.recommended == small
    assert Shipped((accurate, small), {}, max_drop=0.5).recommended == accurate
    assert 'Refused: a as onnx-fp16: it overflows.' in shipped.table()
    assert len(draw_front(shipped).axes) == 2
    table = Shipped((small,), {}, 1, zeros=dict(a=0.4996, b=0.0)).table()
    assert 'a: 50 % of its weights are 0; each file stores and multiplies them like other weights' in table
    assert 'b: ' not in table


@pytest.mark.parametrize(
    ('size', 'time', 'gains'), [(50, 1.0, ('size',)), (96, 0.5, ('time',)), (96, 0.96, ()), (120, 2.0, ())]
)
def test_what_brings_less_than_a_twentieth_is_no_gain(size, time, gains):
    measured = Measurement(
        10,
        dict(float32=Accuracy(90, 80, 95), int8=Accuracy(89, 79, 94)),
        99.0,
        dict(float32=100, int8=size),
        dict(float32={1: 1.0, 32: 1.0}, int8={1: time, 32: 1.0}),
    )
    found = Choice.of('a', Target('onnx', 'int8'), 'folder', measured)
    assert found.gains == gains
    assert ('no gain' in Shipped((found,), {}, 1).table()) == (not gains)


def test_without_a_network_in_float32_no_gain_in_time_is_stated():
    measured = Measurement(
        10,
        dict(float32=Accuracy(90, 80, 95), int8=Accuracy(90, 80, 95)),
        100.0,
        dict(float32=100, int8=30),
        dict(int8={1: 1.0, 32: 1.0}),
    )
    assert Choice.of('a', Target('exported', 'int8'), 'folder', measured).gains == ('size',)


@pytest.mark.parametrize('text', ['onnx', 'onnx-int4', 'tflite-int8', 'torch-int8'])
def test_an_unknown_target_names_the_known_ones(text):
    with pytest.raises(ValueError, match=r'the target must be one of mmpretrain-float32, .* onnx-int8, .* got'):
        Target.read(text)


def test_a_run_is_named_by_its_folder_and_a_checkpoint_by_its_file(tmp_path):
    run = tmp_path / 'R2KD' / 'seed_0'
    run.mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match='has no last_checkpoint, so it is no run'):
        find_students([run])
    (run / 'epoch_2.pth').touch()
    (run / 'last_checkpoint').write_text('/moved/epoch_2.pth')
    assert find_students([run, run / 'epoch_2.pth']) == {
        'R2KD_seed_0': run / 'epoch_2.pth',
        'epoch_2': run / 'epoch_2.pth',
    }
    with pytest.raises(ValueError, match="two students would be called 'epoch_2'"):
        find_students([run / 'epoch_2.pth', run / 'epoch_2.pth'])


@pytest.mark.slow
def test_the_tool_ships_a_student_to_two_targets(tmp_path):
    torch.manual_seed(3)
    exports.write_checkpoint(tmp_path / 'student.pth')
    targets = 'onnx-float32,onnx-int8'
    out = tmp_path / 'out'
    done = toolbox.run_forked(
        'ship.py', tmp_path / 'student.pth', '--targets', targets, '--out', out, '--max-drop', '3'
    )
    assert done.returncode == 0, done.stderr
    said = json.loads((out / 'ship.json').read_text())
    assert [found['target'] for found in said['choices']] == ['onnx-float32', 'onnx-int8']
    assert said['choices'][0]['agreement'] == 100
    for found in said['choices']:
        assert found['bytes'] == (out / 'student' / found['target'] / 'model.onnx').stat().st_size
        onnxruntime.InferenceSession(out / 'student' / found['target'] / 'model.onnx')
    assert said['recommended'] in [found['folder'] for found in said['choices']]
    assert 'Recommended: student as onnx-' in done.stdout
    assert (out / 'table.md').read_text() in done.stdout
    assert (out / 'front.png').stat().st_size > 1000


def test_a_folder_that_exists_is_left_alone(tmp_path):
    with pytest.raises(FileExistsError, match='exists; give another folder'):
        ship({'a': 'no.pth'}, ['torch-float32'], tmp_path)
