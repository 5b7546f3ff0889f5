"""docs/map.md names every folder of the package, and an image passes each folder once on its way to a loss."""

import re
import sys
from collections.abc import Iterator
from types import FrameType

import toys
from toolbox import ROOT

PACKAGE = ROOT / 'r2kd_mm'
INSIDE = f'{PACKAGE}/'
FOLDERS = {folder.name for folder in PACKAGE.iterdir() if (folder / '__init__.py').is_file()}


def documented_map() -> set[str]:
    """The parts of the package that the table 'What is where' names."""
    text = (ROOT / 'docs/map.md').read_text().split('## What is where')[1].split('\n## ')[0]
    rows = [line.split('|')[1] for line in text.splitlines() if line.startswith('| `r2kd_mm/')]
    names = [name for row in rows for name in re.findall(r'`([\w./]+)`', row)]
    return {name.removeprefix('r2kd_mm/').removesuffix('.py') for name in names}


def test_every_folder_is_on_the_map_and_what_is_on_it_exists():
    assert documented_map() >= FOLDERS
    assert documented_map() - FOLDERS <= {path.stem for path in PACKAGE.glob('*.py')}


def folder_of(frame: FrameType) -> str | None:
    """The folder of the package that a call is in."""
    file = frame.f_code.co_filename
    folder = file[len(INSIDE) :].partition('/')[0] if file.startswith(INSIDE) else None
    return folder if folder in FOLDERS else None


def folders_of(frame: FrameType | None) -> Iterator[str]:
    """The folders of the package that lead to a call, the innermost first; neighbours of one folder count once."""
    last = None
    while frame is not None:
        folder = folder_of(frame)
        if folder is not None and folder != last:
            last = folder
            yield folder
        frame = frame.f_back


def test_the_path_of_an_image_enters_each_folder_once(tmp_path):
    model = dict(
        type='R2KD', architecture=toys.classifier(10), teacher=toys.classifier(10), allow_untrained_teacher=True
    )
    digits = dict(type='Digits', split='train', channels=3, pipeline=[dict(type='PackInputs')])
    runner = toys.runner(
        model, tmp_path, train_data=digits, train_cfg=dict(type='ResumableTrainLoop', max_epochs=1), batch_size=4
    )
    wrapper = runner.build_optim_wrapper(dict(optimizer=dict(type='SGD', lr=0.05)))
    paths = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == 'call' and folder_of(frame) is not None:
            paths.add(tuple(folders_of(frame))[::-1])

    sys.setprofile(note)
    try:
        runner.model.train_step(next(iter(runner.train_dataloader)), wrapper)
    finally:
        sys.setprofile(None)
    seen = {folder for path in paths for folder in path}
    assert {'engine', 'datasets', 'distillers', 'augmentations', 'teachers', 'losses', 'functional'} <= seen
    assert [path for path in paths if len(set(path)) < len(path)] == []
    assert seen <= documented_map()
