"""Make the files of this folder with version 0.1.0; run it with that version and its tests on PYTHONPATH.

python tests/data/v0_1_0/make.py /tmp/v0_1_0    # a new folder; copy its content next to this file
"""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import toolbox

from r2kd_mm import __version__
from r2kd_mm.compat import load_checkpoint_file
from r2kd_mm.distillers.logit_store import RowFormat
from r2kd_mm.export import FORMATS, export_student, load_student

CONFIGS = ('my_teacher.py', 'my_distillation.py')
CHECKPOINT = 'run/epoch_8.pth'
NUM_IMAGES = 8


def run_tool(*arguments: str) -> None:
    """Run a tool in this folder, or stop."""
    done = toolbox.run(*arguments, cwd=Path.cwd())
    if done.returncode:
        sys.exit(done.stderr)


def logits_of_store() -> dict[str, list]:
    """Read the logits that the store holds of the first images, by view and round."""
    (folder,) = Path('store').iterdir()
    form = RowFormat(num_classes=10)
    rows = {path.stem: np.fromfile(path, form.layout, NUM_IMAGES) for path in sorted(folder.glob('*.rows'))}
    return {name: form.decode(some).tolist() for name, some in rows.items()}


def main() -> None:
    """Train, export and compare; then write down the numbers that a later version has to find."""
    assert __version__ == '0.1.0', f'this is version {__version__}'
    here, out = Path(__file__).resolve().parent, Path(sys.argv[1])
    out.mkdir()
    for name in CONFIGS:
        shutil.copy(here / name, out)
    os.chdir(out)
    run_tool('train.py', 'my_teacher.py', '--work-dir', 'teacher')
    run_tool('train.py', 'my_distillation.py', '--work-dir', 'run')
    for name in FORMATS:
        export_student(CHECKPOINT, f'exports/{name}', name)
    stored = logits_of_store()
    shutil.move('store', 'store_of_run')
    options = ['model.replay.folder=compare/store']
    methods = ['my_distillation.py', '--seeds', '0', '1', '--out', 'compare']
    run_tool('compare.py', *methods, '--cfg-options', *options)
    shutil.rmtree('compare/store')
    for pattern in ('accuracy.png', 'epoch_4.pth', '*.lock'):  # large, or empty
        for path in Path('compare').rglob(pattern):
            path.unlink()
    shutil.move('store_of_run', 'store')

    student = load_student(CHECKPOINT)
    history = load_checkpoint_file(CHECKPOINT)['message_hub']['log_scalars']
    expected = dict(
        images=student.images.tolist(),
        logits=student.logits().tolist(),
        store=stored,
        losses=history['train/loss'].data[0].tolist(),
        accuracy=history['val/accuracy/top1'].data[0].tolist(),
        compare=json.loads(Path('compare/results.json').read_text())['methods'],
    )
    Path('expected.json').write_text(json.dumps(expected) + '\n')


if __name__ == '__main__':
    main()
