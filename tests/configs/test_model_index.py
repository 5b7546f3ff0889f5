"""model-index.yml lists every config once, with its number of parameters and its accuracy."""

import pytest
import toolbox
import yaml
from mmengine.config import Config
from mmengine.registry import DefaultScope
from modelindex.load_model_index import load

from r2kd_mm.published import TEACHERS
from r2kd_mm.registry import MODELS

INDEX = load(str(toolbox.ROOT / 'model-index.yml'))
ENTRIES = {model.name: model for model in INDEX.models}


def test_every_config_is_named_once():
    leaves = {path for path in (toolbox.ROOT / 'configs').glob('*/*.py') if path.parent.name != '_base_'}
    named = [toolbox.ROOT / model.config for model in INDEX.models]
    assert len(named) == len(set(named))
    assert set(named) == leaves
    assert all(model.name == path.stem for model, path in zip(INDEX.models, named))


@pytest.mark.parametrize('name', ['res6_digits', 'kd_res56_res20_cifar100', 'r2kd_vgg13_mv2_tiny-imagenet'])
def test_the_parameters_are_those_of_the_student(name):
    model = Config.fromfile(toolbox.ROOT / ENTRIES[name].config).model
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        student = MODELS.build(model.get('architecture', model))
    assert ENTRIES[name].metadata.parameters == sum(parameter.numel() for parameter in student.parameters())


def test_a_published_number_has_its_source_and_an_unknown_one_says_so():
    for model in INDEX.models:
        metrics = model.results[0].metrics
        known = metrics['Published Top 1 Accuracy'] != 'not known'
        assert known == (metrics['Published Source'] != 'none'), model.name


def test_the_published_teachers_are_those_of_the_package():
    for name, short in {'cifar100/resnet56': 'res56_cifar100', 'imagenet/resnet50': 'res50_imagenet'}.items():
        assert ENTRIES[short].results[0].metrics['Published Top 1 Accuracy'] == TEACHERS[name].accuracy


def test_the_files_are_plain_yaml():
    for name in yaml.safe_load((toolbox.ROOT / 'model-index.yml').read_text())['Import']:
        assert yaml.safe_load((toolbox.ROOT / name).read_text())['Models']
