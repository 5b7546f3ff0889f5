"""The parameters of classes and functions are found, which error messages list."""

import pytest

from r2kd_mm.signatures import parameters_of


class Base:
    def __init__(self, size, depth=1):
        pass


class PassesOn(Base):
    def __init__(self, *args, width=2, **kwargs):
        super().__init__(*args, **kwargs)


class Keeps(Base):
    def __init__(self, width=2, **kwargs):
        super().__init__(1)
        self.settings = kwargs


class Takes(Base):
    def __init__(self, width=2, **kwargs):
        self.height = kwargs.pop('height', 3)
        super().__init__(**kwargs)


def test_parameters_of_a_base_class_count_if_kwargs_are_only_passed_on():
    assert list(parameters_of(PassesOn)) == ['width', 'size', 'depth']
    assert list(parameters_of(lambda size, *, depth=1: None)) == ['size', 'depth']


@pytest.mark.parametrize('cls', [Keeps, Takes, dict, lambda **kwargs: None])
def test_a_callable_that_takes_any_name_has_no_list_of_parameters(cls):
    assert parameters_of(cls) is None
