"""Predictor gives the class probabilities of an image file."""

import exports
import pytest
import torch

from r2kd_mm.export import Predictor, export_student, load_student


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    """A student, its export, and the files of the first three test images."""
    folder = tmp_path_factory.mktemp('digits')
    checkpoint = exports.write_checkpoint(folder / 'student.pth')
    export_student(checkpoint, folder / 'export', 'torch')
    return load_student(checkpoint), folder / 'export', exports.write_digits(folder / 'images')


def test_a_file_gets_the_probabilities_of_its_pixels(digits):
    student, export, paths = digits
    predict = Predictor(export)
    assert torch.equal(predict.preprocessing(paths[0]), student.images[0])
    predictions = predict(paths[0], top=10)
    probabilities = student.logits()[0].softmax(0)
    assert [prediction.index for prediction in predictions] == probabilities.argsort(descending=True).tolist()
    for prediction in predictions:
        assert prediction.probability == pytest.approx(probabilities[prediction.index].item())
    assert all(prediction.name == str(prediction.index) for prediction in predictions)


def test_the_top_classes_are_the_first_of_all(digits):
    _, export, paths = digits
    predict = Predictor(export)
    assert predict(paths[0], top=3) == predict(paths[0], top=99)[:3]
    with pytest.raises(ValueError, match='top must be at least 1, got 0'):
        predict(paths[0], top=0)


def test_another_folder_is_no_export(tmp_path):
    with pytest.raises(FileNotFoundError, match='is no export: expected a folder with export.json'):
        Predictor(tmp_path)
