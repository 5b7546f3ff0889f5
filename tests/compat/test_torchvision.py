"""The fix for a torchvision whose compiled operators do not match the installed torch."""

import warnings

import pytest
import torch

from r2kd_mm.compat.torchvision import declare_missing_torchvision_operators


class TestTorchvision:
    @staticmethod
    def load_that_wants(*operators):
        def load():
            for operator in operators:
                if not hasattr(torch.ops.torchvision, operator):
                    raise RuntimeError(f'operator torchvision::{operator} does not exist')

        return load

    def test_imports_here(self):
        import torchvision

        assert torchvision.transforms.functional.hflip(torch.tensor([[[1, 2]]])).tolist() == [[[2, 1]]]

    def test_declares_each_missing_operator_and_says_so_once(self):
        with pytest.warns(UserWarning, match=r'compiled operators \(toy_a, toy_b\) cannot be called') as caught:
            declare_missing_torchvision_operators(self.load_that_wants('toy_a', 'toy_b'))
        assert len(caught) == 1

    def test_is_silent_where_nothing_is_missing(self):
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            declare_missing_torchvision_operators(self.load_that_wants())

    @pytest.mark.parametrize(
        'message',
        [
            'CUDA is broken',
            'operator aten::conv9d does not exist',
            'operator torchvision::toy_c does not exist',  # although it has been declared
        ],
    )
    def test_other_errors_pass(self, message):
        def load():
            raise RuntimeError(message)

        with pytest.raises(RuntimeError, match=message):
            declare_missing_torchvision_operators(load)
