import numpy as np
import torch
from sklearn.isotonic import IsotonicRegression

from r2kd_mm.functional.isotonic import isotonic


def test_isotonic_fit_agrees_with_scikit_learn():
    rows = torch.cat([torch.randn(30, 60), -torch.arange(60.0).expand(1, -1), torch.randint(0, 3, (9, 60))]).double()
    rows[10:20] += torch.linspace(0, 6, 60)
    expected = [IsotonicRegression().fit_transform(np.arange(60), row) for row in rows.numpy()]
    torch.testing.assert_close(isotonic(rows)[0], torch.tensor(np.stack(expected)))
