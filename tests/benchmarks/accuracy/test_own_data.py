"""The recipe benchmark writes real pictures and compares methods on the seeds that they share."""

import own_data

from r2kd_mm.datasets import ImageFolder


def test_the_digits_become_folders_of_pictures(tmp_path):
    own_data.write_digits(tmp_path, train=2, val=1)
    train, val = (ImageFolder(str(tmp_path), split, lazy_init=False) for split in ('train', 'val'))
    assert (len(train), len(val), len(train.metainfo['classes'])) == (20, 10, 10)


def test_the_table_pairs_the_seeds():
    accuracies = dict(alone=(70.0, 72.0, 74.0), kd=(71.0, 75.0))
    lines = [
        dict(run=['digits', 'resnet8', 'adamw', method, seed], accuracy=value)
        for method, values in accuracies.items()
        for seed, value in enumerate(values)
    ]
    cells = [cell.strip() for cell in own_data.to_markdown(lines).splitlines()[3].split('|')]
    assert cells[4:7] == ['kd', '71.00, 75.00', '+2.00']
