"""Draw the figures of docs/method.md: ``python docs/figures/method.py``, into docs/images."""

import sys
from pathlib import Path

import matplotlib
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from r2kd_mm.losses import correlation_distance, rank_distance  # noqa: E402  once the folder is on the path

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402  after the choice of the backend

IMAGES = ROOT / 'docs' / 'images'
TEACHER, STUDENT, LOSS, DATA = '#c9dcf2', '#f6d9b8', '#d5ead0', '#eeeeee'  # fill of a box, by what it is


def draw_step(path: Path) -> None:
    """Draw what runs on what in one training step."""
    figure, axes = plt.subplots(figsize=(10, 4.6))
    axes.set(xlim=(0, 100), ylim=(0, 46))
    axes.axis('off')

    def box(x: float, y: float, width: float, text: str, colour: str, height: float = 6) -> None:
        axes.add_patch(plt.Rectangle((x, y), width, height, facecolor=colour, edgecolor='#555555'))
        axes.text(x + width / 2, y + height / 2, text, ha='center', va='center', fontsize=10)

    def arrow(start: tuple[float, float], end: tuple[float, float], **style) -> None:
        axes.annotate('', end, start, arrowprops=dict(arrowstyle='->', color='#555555', **style))

    box(1, 26, 16, 'clean images', DATA)
    box(1, 12, 16, 'augmented view', DATA)
    box(1, 40, 16, 'labels', DATA, 5)
    arrow((9, 26), (9, 18))
    axes.text(10, 21.5, 'CutMix, ...', fontsize=9, color='#555555')

    box(27, 30, 20, 'teacher', TEACHER)
    box(27, 20, 20, 'pruned copy', TEACHER)
    box(27, 4, 20, 'student', STUDENT)
    arrow((37, 30), (37, 26))
    axes.text(38, 27.4, 'once: 10 % zeroed', fontsize=9, color='#555555')
    for view in (29, 15):
        for network in (33, 23, 7):
            arrow((17, view), (27, network))

    box(56, 25, 14, 'target $l$', TEACHER)
    box(56, 4, 14, 'logits $s$', STUDENT)
    arrow((47, 33), (56, 29.5))
    arrow((47, 23), (56, 26.5))
    axes.text(51.5, 32.3, '0.7', fontsize=10, ha='center')
    axes.text(51.5, 22.6, '0.3', fontsize=10, ha='center')
    arrow((47, 7), (56, 7))

    box(80, 36, 19, 'cross entropy\nclean images', LOSS, 8)
    box(80, 22, 19, 'value term\nboth views', LOSS, 8)
    box(80, 8, 19, 'rank term\nboth views', LOSS, 8)
    for term in (26, 12):
        arrow((70, 28), (80, term))
    for term in (38, 24, 10):
        arrow((70, 7), (80, term))
    arrow((17, 42.5), (80, 42.5))
    axes.text(89.5, 2.5, 'sum: the loss', ha='center', fontsize=10)
    save(figure, path)


def draw_terms(path: Path) -> None:
    """Values against ranks on one image, and a rank loss that trains next to one that does not."""
    classes = ['cat', 'lynx', 'dog', 'fox', 'car']
    teacher = torch.tensor([[6.0, 4.0, 3.0, 2.0, -4.0]])
    students = {
        'ranks right, values off': torch.tensor([[1.0, 0.7, 0.5, 0.4, 0.2]]),
        'values near, ranks off': torch.tensor([[6.0, 2.4, 2.7, 3.0, -4.0]]),
    }
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), width_ratios=(3, 2))
    places = torch.arange(len(classes))
    rows = {'teacher': teacher, **students}
    colours = ('#4878a8', '#e0a050', '#6aa860')
    for index, (name, logits) in enumerate(rows.items()):
        label = name
        if name != 'teacher':
            value = correlation_distance(logits, teacher, temperature=4.0, batch_wise=False) / 16
            rank = rank_distance(logits, teacher, estimator='hard').abs()  # not -0.0
            label = f'{name}: value distance {value:.3f}, rank distance {rank:.1f}'
        left.bar(places + 0.27 * (index - 1), (logits / 4).softmax(1)[0], 0.25, label=label, color=colours[index])
    left.set_xticks(places, classes)
    left.set(ylabel='softmax of logits / 4', ylim=(0, 0.75), title='One image: values and ranks')
    left.legend(fontsize=9, loc='upper right')

    moving = torch.linspace(1, 7, 301)
    logits = teacher.repeat(len(moving), 1)
    logits[:, 2] = moving
    for estimator, style in (('hard', dict(color='#888888')), ('sigmoid', dict(color='#c04040'))):
        distances = [rank_distance(row[None], teacher, estimator=estimator) for row in logits]
        right.plot(moving, torch.stack(distances), label=f"estimator='{estimator}'", **style)
    for logit, name in zip(teacher[0, [0, 1, 3]].tolist(), ('cat', 'lynx', 'fox')):
        right.axvline(logit, color='#cccccc', linewidth=0.8, zorder=0)
        right.text(logit, 0.415, name, ha='center', fontsize=9, color='#777777')
    right.set(xlabel="the student's logit of 'dog'", ylabel='rank distance', ylim=(0, 0.4))
    right.set_title('What the rank term sees', pad=18)
    right.legend(fontsize=9, loc='upper center')
    save(figure, path)


def save(figure: plt.Figure, path: Path) -> None:
    """Write without a date or a version, so that equal figures are equal files."""
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata=dict(Software=None))


if __name__ == '__main__':
    draw_step(IMAGES / 'method_step.png')
    draw_terms(IMAGES / 'method_terms.png')
