"""Train a student by R2KD with HuggingFace accelerate instead of MMEngine's Runner, on one device or several.

The example needs one more package. It runs on scikit-learn's handwritten digits, in less than a minute on a CPU::

    pip install accelerate
    python examples/with_accelerate.py
    torchrun --nproc_per_node 2 examples/with_accelerate.py

With several processes, each loss is computed over the batches of all processes together, as in the library's own runs.
"""

import torch
from accelerate import Accelerator
from r2kd_by_hand import network, train
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from r2kd_mm.distillers import Distillation


def main(epochs: int = 60) -> float:
    """Train a teacher, and a student by R2KD under accelerate; print and return the student's accuracy in percent."""
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 8 - 1
    labels = torch.tensor(digits.target)
    torch.manual_seed(0)  # the same networks in all processes
    teacher, student = network(64), network(4)
    train(
        teacher,
        images[:300],
        labels[:300],
        lambda images, labels, _: {'task': nn.functional.cross_entropy(teacher(images), labels)},
        epochs,
    )

    loader = DataLoader(
        TensorDataset(images[:300], labels[:300]), batch_size=32 // accelerator.num_processes, shuffle=True
    )
    module = Distillation.r2kd(student, teacher).as_module()
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, epochs=epochs, steps_per_epoch=len(loader))
    module, optimizer, loader, schedule = accelerator.prepare(module, optimizer, loader, schedule)
    module.train()
    for _ in range(epochs):
        for batch_images, batch_labels in loader:
            optimizer.zero_grad()
            accelerator.backward(sum(module(batch_images, batch_labels).values()))
            accelerator.clip_grad_norm_(module.parameters(), 5.0)
            optimizer.step()
            schedule.step()

    student = accelerator.unwrap_model(module).student.eval()
    device = next(student.parameters()).device
    with torch.no_grad():
        found = student(images[300:].to(device)).argmax(1).cpu()
    accuracy = 100 * (found == labels[300:]).float().mean().item()
    accelerator.print(f'student, R2KD  {accuracy:.2f} %')
    return accuracy


if __name__ == '__main__':
    main()
