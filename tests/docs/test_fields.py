"""The documented tables of the config fields are complete and agree with the code."""

import importlib.util

import pytest
from toolbox import ROOT

from r2kd_mm.lazy import import_all
from r2kd_mm.registry import MODELS

PARTS = ('r2kd_mm.losses.', 'r2kd_mm.pruning.', 'r2kd_mm.augmentations.')
specification = importlib.util.spec_from_file_location('fields', ROOT / 'docs/fields.py')
fields = importlib.util.module_from_spec(specification)
specification.loader.exec_module(fields)
PAGE = (ROOT / 'docs/reference/config.md').read_text()
NAMES = fields.MARK.findall(PAGE)


@pytest.mark.parametrize('name', NAMES)
def test_every_field_says_what_it_means(name):
    rows = fields.fields(fields.find(name))
    assert rows
    assert [field for field, _, _, text in rows if not text] == []


def test_every_part_that_a_config_can_name_is_on_the_page():
    for part in ('losses', 'augmentations', 'pruning'):
        import_all(f'r2kd_mm.{part}')
    registered = {name for name, part in MODELS.module_dict.items() if part.__module__.startswith(PARTS)}
    assert len(registered) > 15
    assert registered <= {name.rpartition('.')[2] for name in NAMES}


def test_defaults_and_ranges_are_those_of_the_code():
    rows = fields.table('r2kd_mm.distillers.R2KD').splitlines()
    assert '| `teacher_weight` | `float` | `0.7` | The share `w` of the full teacher, in `[0, 1]`. |' in rows
    (teacher,) = [row for row in rows if row.startswith('| `teacher` ')]
    assert '| must be given |' in teacher
    # the module states a weight; the function that it points to explains the rest
    rows = fields.fields(fields.find('r2kd_mm.losses.KLDivergenceLoss'))
    assert [(name, default) for name, _, default, _ in rows] == [('temperature', '`4.0`'), ('loss_weight', '`1.0`')]
    filled = fields.fill('<!-- fields: r2kd_mm.losses.KLDivergenceLoss -->\n')
    assert filled.startswith('| field | type | default |')
