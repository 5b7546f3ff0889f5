"""Plant one bug at a time in a copy of the package, and check that the test for this bug fails.

    python tests/planted_faults.py           # all of them
    python tests/planted_faults.py replay    # those of one area

The results are written to ``benchmarks/results/planted_faults.md`` and ``.json`` and replace the earlier results.

The faults were chosen before the tests were split into `make test` and `make test-all`.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / 'benchmarks/results'
IMPORTED = ('mmengine.runner', 'scipy.stats', 'sklearn.datasets', 'torch')  # once for all tests
COPIED = ('r2kd_mm', 'configs', 'tools', 'tests', 'benchmarks', 'docs', 'pyproject.toml', 'setup.py', 'README.md')


@dataclass(frozen=True)
class Fault:
    """A mistake that somebody could make.

    Attributes:
        name: What is wrong.
        area: Part of the package.
        file: Path below ``r2kd_mm``.
        old: Text that is there exactly once.
        new: What takes its place.
        test: The test that sees it, as pytest names it, below ``tests``.
    """

    name: str
    area: str
    file: str
    old: str
    new: str
    test: str


FAULTS = [
    Fault(
        'KL without the squared temperature',
        'losses',
        'losses/kl_divergence.py',
        'return temperature**2 * kl_per_sample(',
        'return kl_per_sample(',
        'losses/test_kl_divergence.py::test_is_the_mean_relative_entropy_of_scipy_times_the_squared_temperature',
    ),
    Fault(
        'the sum over the batch taken over the classes',
        'losses',
        'losses/correlation_distance.py',
        'teacher_log_prob.exp(), 0, eps)',
        'teacher_log_prob.exp(), 1, eps)',
        'losses/test_correlation_distance.py::test_centered_agrees_with_scipy',
    ),
    Fault(
        'the teacher not ranked in the rank term',
        'losses',
        'losses/rank_distance.py',
        'hard_rank(teacher_logits), dim=1',
        'teacher_logits, dim=1',
        'losses/test_rank_distance.py::test_exact_estimators_agree_with_scipy_ties_included',
    ),
    Fault(
        'gradient of a soft rank with the wrong sign for the other classes',
        'losses',
        'functional/ranking.py',
        '* slope.sum(-1) - slope.mul_',
        '* slope.sum(-1) + slope.mul_',
        'functional/test_ranking.py::test_smooth_estimators_pass_gradcheck',
    ),
    Fault(
        'the two weights of DKD exchanged',
        'losses',
        'losses/dkd.py',
        '(alpha * target_part + beta * other_part)',
        '(beta * target_part + alpha * other_part)',
        'losses/test_dkd.py::test_agrees_with_the_definition',
    ),
    Fault(
        'z-scores by the deviation of n in place of n - 1',
        'losses',
        'losses/logit_standardization.py',
        'standardize(student_logits, dim=1, correction=1)',
        'standardize(student_logits, dim=1, correction=0)',
        'losses/test_logit_standardization.py::test_the_wrapped_loss_sees_the_z_scores_of_the_paper',
    ),
    Fault(
        'one sample too many left out in the middle of an epoch',
        'resume',
        'engine/seeding.py',
        'zip(order[skip:], copies[skip:])',
        'zip(order[skip + 1 :], copies[skip + 1 :])',
        'engine/test_seeding.py::test_skipping_leaves_out_the_first_samples_of_one_pass_and_does_not_load_them',
    ),
    Fault(
        'the oldest checkpoint in place of the newest',
        'resume',
        'engine/resume.py',
        'for number in sorted(numbered, reverse=True):',
        'for number in sorted(numbered):',
        'engine/test_resume.py::TestFindCheckpoint::test_a_damaged_one_is_reported_and_the_one_before_is_used',
    ),
    Fault(
        'the old checkpoint deleted before the new one is written',
        'resume',
        'hooks/checkpoint.py',
        '        self._write(runner, name, meta)\n'
        '        self._remove([*superseded, *_preempted(self.file_backend, self.out_dir)])\n',
        '        self._remove([*superseded, *_preempted(self.file_backend, self.out_dir)])\n'
        '        self._write(runner, name, meta)\n',
        'hooks/test_checkpoint.py::TestOrder::test_the_old_one_goes_after_the_new_one_and_the_pointer_are_there',
    ),
    Fault(
        'generators not seeded by the iteration',
        'resume',
        'engine/train_loop.py',
        "derived_seed('step', self.runner.seed, self.runner.rank, self._iter)",
        "derived_seed('step', self.runner.seed, self.runner.rank)",
        'engine/test_train_loop.py::test_every_iteration_draws_differently_in_all_generators',
    ),
    Fault(
        'a validation that was cut off not made up for',
        'resume',
        'engine/train_loop.py',
        'info.get(VALIDATED_EPOCH, 0) < self._epoch',
        'info.get(VALIDATED_EPOCH, 0) > self._epoch',
        'engine/test_train_loop.py::test_a_validation_that_was_cut_off_is_made_up_for',
    ),
    Fault(
        'the batch-norm statistics of the other processes not restored',
        'resume',
        'hooks/rank_state.py',
        'buffers[name].copy_(self._to_restore[name])',
        'buffers[name].copy_(buffers[name])',
        'hooks/test_rank_state.py::test_two_processes_resume_with_their_own_statistics_and_end_the_same',
    ),
    Fault(
        'other weights of the teacher accepted on resume',
        'resume',
        'hooks/record.py',
        "('record.world_size', 'record.train_data', 'record.teachers')",
        "('record.world_size', 'record.train_data')",
        'hooks/test_record.py::TestResume::test_other_weights_of_the_teacher_are_refused_wherever_they_lie',
    ),
    Fault(
        'a row of logits that lies in the place of another image taken for whole',
        'replay',
        'teachers/store.py',
        'zlib.crc32(row, place)',
        'zlib.crc32(row)',
        'teachers/test_store.py::test_a_row_in_the_place_of_another_image_is_missing',
    ),
    Fault(
        'the probability of the classes that are left out spread over all classes',
        'replay',
        'teachers/store.py',
        'math.log(self.num_classes - self.top_k)',
        'math.log(self.num_classes)',
        'teachers/test_store.py::test_top_k_keeps_the_largest_and_the_probability_of_the_rest',
    ),
    Fault(
        'the logits of another input used',
        'replay',
        'teachers/store.py',
        "rows['input'] != np.asarray(inputs, np.uint32)",
        "rows['input'] != rows['input']",
        'teachers/test_store.py::test_logits_of_another_input_are_missing_and_are_counted',
    ),
    Fault(
        'the same augmented view in every round',
        'replay',
        'teachers/replay.py',
        "derived_seed('view', self._seed, number, ",
        "derived_seed('view', self._seed, 0, ",
        'teachers/test_replay.py::test_the_draws_depend_on_seed_round_and_image_alone',
    ),
    Fault(
        'another partner than the neighbour in the batch',
        'replay',
        'teachers/replay.py',
        'torch.arange(len(places)) ^ 1)',
        'torch.arange(len(places)) | 1)',
        'teachers/test_replay.py::test_the_partner_is_the_neighbour',
    ),
    Fault(
        'logits of another pipeline used',
        'replay',
        'hooks/replay.py',
        'pipeline=_describe_pipeline(runner, loader.dataset)',
        "pipeline=''",
        'hooks/test_replay.py::'
        'test_a_store_of_another_pipeline_is_not_used_where_the_transform_does_not_print_the_difference',
    ),
    Fault(
        'every round noted as the first one',
        'replay',
        'hooks/replay.py',
        'store.complete(runner.epoch % self.cycle)',
        'store.complete(0)',
        'hooks/test_replay.py::test_a_complete_store_needs_no_teacher_in_the_next_run',
    ),
    Fault(
        'red and blue exchanged',
        'export',
        'export/preprocessing.py',
        'image = image[..., ::-1]',
        'image = image[..., :]',
        'export/test_preprocessing.py::test_channels_are_in_the_order_that_is_said',
    ),
    Fault(
        'probabilities that do not sum to one',
        'export',
        'export/predictor.py',
        'given.softmax(1)',
        'given.sigmoid()',
        'export/test_predictor.py::test_a_file_gets_the_probabilities_of_its_pixels',
    ),
    Fault(
        'one batch size alone',
        'export',
        'export/graphs.py',
        'dynamic_shapes=({0: torch.export.Dim(BATCH)},), strict=False',
        'strict=False',
        'export/test_formats.py::test_an_export_works_without_this_package[exported]',
    ),
    Fault(
        'logits that are not a number taken for equal',
        'export',
        'export/export.py',
        'if not difference <= TOLERANCE:',
        'if difference > TOLERANCE:',
        'export/test_export.py::test_what_differs_from_the_student_is_not_written',
    ),
    Fault(
        'half an export left behind',
        'export',
        'export/export.py',
        '        shutil.rmtree(temporary)\n',
        '',
        'export/test_export.py::test_an_interrupted_export_leaves_nothing',
    ),
]


def run_tests(tree: Path, tests: list[str], *options: str) -> int:
    """Run tests of the copy in a fork of this process, which has imported the packages but not ours; the exit code."""
    process = multiprocessing.get_context('fork').Process(target=_run_tests, args=(tree, tests, options))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def _run_tests(tree: Path, tests: list[str], options: tuple[str, ...]) -> None:
    log = os.open(tree / 'log', os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.chdir(tree)
    sys.dont_write_bytecode, os.environ['PYTHONDONTWRITEBYTECODE'] = True, '1'  # a file changes within a second
    sys.path[:0] = [str(tree), str(tree / 'tests')]
    sys.exit(pytest.main(['-x', '-q', '-p', 'no:cacheprovider', *options, *(f'tests/{test}' for test in tests)]))


def plant(tree: Path, fault: Fault) -> dict[str, str]:
    """Run the test with the fault; the row of the table."""
    path = tree / 'r2kd_mm' / fault.file
    whole = path.read_text()
    path.write_text(whole.replace(fault.old, fault.new))
    command, found = 'make test', run_tests(tree, [fault.test], '-m', 'not slow')
    if found == pytest.ExitCode.NO_TESTS_COLLECTED:
        command, found = 'make test-all', run_tests(tree, [fault.test], '-m', 'slow')
    path.write_text(whole)
    return dict(asdict(fault), command=command, seen='yes' if found == pytest.ExitCode.TESTS_FAILED else 'no')


def misplaced() -> list[str]:
    """List the faults with a text that is not there exactly once, or with a missing test."""
    found = []
    for fault in FAULTS:
        if (ROOT / 'r2kd_mm' / fault.file).read_text().count(fault.old) != 1:
            found.append(f'{fault.name}: {fault.file} does not have {fault.old!r} exactly once')
        file, _, names = fault.test.partition('::')
        path = ROOT / 'tests' / file
        heads = [
            f'{"class" if name.startswith("Test") else "def"} {name.partition("[")[0]}' for name in names.split('::')
        ]
        if not path.is_file() or not all(head in path.read_text() for head in heads):
            found.append(f'{fault.name}: there is no test {fault.test}')
    return found


def table(rows: list[dict[str, str]]) -> str:
    """Markdown."""
    lines = ['| area | fault | test | run by | seen |', '| --- | --- | --- | --- | --- |']
    lines += [f'| {row["area"]} | {row["name"]} | `{row["test"]}` | {row["command"]} | {row["seen"]} |' for row in rows]
    quick = sum(row['seen'] == 'yes' and row['command'] == 'make test' for row in rows)
    every = sum(row['seen'] == 'yes' for row in rows)
    lines += ['', f'Of {len(rows)} faults `make test` sees {quick}, and `make test-all` {every}.', '']
    return '\n'.join(lines)


def main(areas: list[str]) -> int:
    """Plant the faults of these areas, or all, and write what was found into the table."""
    problems = misplaced()
    if problems:
        print(*problems, sep='\n')
        return 1
    faults = [fault for fault in FAULTS if not areas or fault.area in areas]
    for name in IMPORTED:
        importlib.import_module(name)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in COPIED:
            ignore = shutil.ignore_patterns('__pycache__', '.mim')
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, Path(folder, name), ignore=ignore)
            else:
                shutil.copy(ROOT / name, folder)
        if run_tests(Path(folder), [fault.test for fault in faults]) != pytest.ExitCode.OK:
            print(Path(folder, 'log').read_text()[-3000:], 'error: a test fails without a fault', sep='\n')
            return 1
        for fault in faults:
            rows.append(plant(Path(folder), fault))
            print(f'{rows[-1]["seen"]:>3}  {rows[-1]["command"]:<13}  {fault.area}: {fault.name}', flush=True)
    write(rows)
    return int(any(row['seen'] != 'yes' for row in rows))


def write(rows: list[dict[str, str]]) -> None:
    """Put these rows into the results."""
    path = RESULTS / 'planted_faults.json'
    found = {row['name']: row for row in [*(json.loads(path.read_text()) if path.is_file() else ()), *rows]}
    rows = [found[fault.name] for fault in FAULTS if fault.name in found]
    path.write_text(json.dumps(rows, indent=1) + '\n')
    head = '# Planted faults\n\n`python tests/planted_faults.py` plants each fault alone and runs the named test.\n\n'
    path.with_suffix('.md').write_text(head + table(rows))


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
