"""A run resumes from the newest complete checkpoint, and reports the damaged ones."""

import shutil
from pathlib import Path

import pytest
import torch
import toys
from mmengine.config import Config

from r2kd_mm.engine import find_checkpoint, resume, set_resume
from r2kd_mm.engine.resume import stretch_schedule


@pytest.fixture(scope='module')
def finished(tmp_path_factory) -> Path:
    """The work dir of three epochs, each with its checkpoint and that of its best so far."""
    work_dir = tmp_path_factory.mktemp('finished')
    hook = dict(type='SafeCheckpointHook', interval=1, save_best='accuracy/top1')
    toys.runner(toys.classifier(), work_dir, epochs=3, default_hooks=dict(checkpoint=hook)).train()
    return work_dir


@pytest.fixture
def work_dir(finished, tmp_path) -> Path:
    """A copy of it, whose pointer names the copies."""
    copy = tmp_path / 'work'
    shutil.copytree(finished, copy)
    (copy / 'last_checkpoint').write_text(str(copy / 'epoch_3.pth'))
    return copy


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


class TestFindCheckpoint:
    def test_the_pointer_names_the_newest(self, work_dir, capsys):
        assert find_checkpoint(work_dir) == str(work_dir / 'epoch_3.pth')
        assert capsys.readouterr().err == ''

    def test_a_damaged_one_is_reported_and_the_one_before_is_used(self, work_dir, capsys):
        cut(work_dir / 'epoch_3.pth')
        assert find_checkpoint(work_dir) == str(work_dir / 'epoch_2.pth')
        first, second = capsys.readouterr().err.splitlines()
        assert first.startswith(f"warning: passed over: checkpoint '{work_dir}/epoch_3.pth' is cut off")
        assert second == f'warning: resuming from {work_dir}/epoch_2.pth, after 8 iterations'

    def test_none_that_is_whole_is_an_error(self, work_dir):
        for epoch in (1, 2, 3):
            cut(work_dir / f'epoch_{epoch}.pth')
        with pytest.raises(ValueError, match=r'none of the checkpoints .* is whole \(epoch_3.pth, epoch_2.pth, '):
            find_checkpoint(work_dir)

    def test_without_a_checkpoint_it_starts_from_scratch(self, tmp_path):
        assert find_checkpoint(tmp_path) is None
        assert find_checkpoint(tmp_path / 'missing') is None

    def test_the_best_one_cannot_be_gone_on_from(self, work_dir):
        for path in (*work_dir.glob('epoch_*.pth'), work_dir / 'last_checkpoint'):
            path.unlink()
        assert list(work_dir.glob('best_*.pth'))
        assert find_checkpoint(work_dir) is None

    @pytest.mark.parametrize('content', [b'', b'\xff\0\xfe', b'/no/such/epoch_9.pth', b'a' * 5000, b'.', b'\0'])
    def test_garbage_in_the_pointer_is_reported_and_the_names_are_used(self, work_dir, capsys, content):
        (work_dir / 'last_checkpoint').write_bytes(content)
        assert find_checkpoint(work_dir) == str(work_dir / 'epoch_3.pth')
        assert 'last_checkpoint points to no checkpoint that is there' in capsys.readouterr().err

    def test_a_work_dir_may_have_been_moved(self, work_dir):
        (work_dir / 'last_checkpoint').write_text('/before/the/move/epoch_2.pth')
        assert find_checkpoint(work_dir) == str(work_dir / 'epoch_2.pth')

    def test_what_an_earlier_run_left_is_not_the_one_before(self, work_dir):
        (work_dir / 'last_checkpoint').write_text(str(work_dir / 'epoch_2.pth'))
        cut(work_dir / 'epoch_2.pth')
        assert find_checkpoint(work_dir) == str(work_dir / 'epoch_1.pth')

    def test_a_name_without_a_number_before_it_is_counted_by_number_and_not_by_letter(self, work_dir):
        shutil.copy(work_dir / 'epoch_2.pth', work_dir / 'epoch_10.pth')
        (work_dir / 'last_checkpoint').unlink()
        assert find_checkpoint(work_dir) == str(work_dir / 'epoch_10.pth')

    def test_a_preempted_checkpoint_counts_by_its_iterations(self, work_dir):
        shutil.move(work_dir / 'epoch_3.pth', work_dir / 'preempted_iter_12.pth')
        (work_dir / 'last_checkpoint').unlink()
        assert find_checkpoint(work_dir) == str(work_dir / 'preempted_iter_12.pth')

    def test_checkpoints_in_another_folder_are_found_by_the_pointer(self, work_dir, tmp_path):
        other = tmp_path / 'other'
        other.mkdir()
        for path in work_dir.glob('epoch_*.pth'):
            shutil.move(path, other)
        (work_dir / 'last_checkpoint').write_text(str(other / 'epoch_3.pth'))
        cut(other / 'epoch_3.pth')
        assert find_checkpoint(work_dir) == str(other / 'epoch_2.pth')


class TestStretchSchedule:
    WARM_UP = dict(type='LinearLR', begin=0, end=2, by_epoch=True)
    COSINE = dict(type='CosineAnnealingLR', begin=2, T_max=4, end=6, by_epoch=True)

    def stretched(self, folder, epochs, schedulers, recorded=None, recorded_epochs=6):
        """``param_scheduler`` in a run of ``epochs`` that resumes from a checkpoint with what is recorded."""
        recorded = Config(
            dict(param_scheduler=recorded or schedulers, train_cfg=dict(max_epochs=recorded_epochs))
        ).pretty_text
        torch.save(dict(meta=dict(cfg=recorded)), folder / 'epoch_6.pth')
        cfg = Config(dict(param_scheduler=schedulers, train_cfg=dict(max_epochs=epochs), resume=True))
        cfg.load_from = str(folder / 'epoch_6.pth')
        stretch_schedule(cfg)
        return cfg.to_dict()['param_scheduler']

    @pytest.mark.parametrize('epochs', [5, 12])
    def test_what_ended_with_the_run_ends_with_it_again(self, tmp_path, epochs):
        long = dict(self.COSINE, T_max=epochs - 2, end=epochs)
        assert self.stretched(tmp_path, epochs, [self.WARM_UP, self.COSINE]) == [self.WARM_UP, long]
        assert self.stretched(tmp_path, epochs, self.COSINE) == long
        one_cycle = dict(type='OneCycleLR', total_steps=6, eta_max=0.1)
        assert self.stretched(tmp_path, epochs, one_cycle) == dict(one_cycle, total_steps=epochs)

    def test_the_same_command_again_does_the_same(self, tmp_path):
        long = [self.WARM_UP, dict(self.COSINE, T_max=10, end=12)]
        assert self.stretched(tmp_path, 12, [self.WARM_UP, self.COSINE], long, recorded_epochs=12) == long

    @pytest.mark.parametrize(
        'schedulers',
        [
            dict(type='MultiStepLR', milestones=[3, 5]),
            dict(type='CosineAnnealingLR', T_max=20),
            dict(type='CosineAnnealingLR'),
        ],
    )
    def test_what_did_not_end_with_the_run_stays(self, tmp_path, schedulers):
        assert self.stretched(tmp_path, 12, schedulers) == schedulers

    def test_what_the_user_has_changed_stays(self, tmp_path):
        mine = dict(self.COSINE, T_max=30, end=32)
        assert self.stretched(tmp_path, 12, mine, self.COSINE) == mine

    def test_the_same_length_changes_nothing(self, tmp_path):
        assert self.stretched(tmp_path, 6, self.COSINE) == self.COSINE


class TestSetResume:
    @pytest.fixture(autouse=True)
    def _first_start(self, monkeypatch):
        monkeypatch.delenv(resume.RESTARTS_VARIABLE, raising=False)

    def plan(self, work_dir, wanted, overwrite=False, **fields) -> tuple:
        cfg = Config(dict(work_dir=str(work_dir), **fields))
        set_resume(cfg, wanted, overwrite)
        return cfg.resume, cfg.get('load_from')

    @pytest.mark.parametrize(
        ('wanted', 'fields'), [('auto', {}), ('auto', dict(load_from='x')), (None, dict(resume=True))]
    )
    def test_the_newest_one_goes_before_what_a_new_run_starts_from(self, work_dir, wanted, fields):
        assert self.plan(work_dir, wanted, **fields) == (True, str(work_dir / 'epoch_3.pth'))

    def test_without_one_the_run_starts_as_the_config_says(self, tmp_path):
        assert self.plan(tmp_path, 'auto', load_from='imagenet.pth') == (False, 'imagenet.pth')

    def test_a_folder_that_holds_a_run_is_not_written_over_unless_asked_for(self, work_dir):
        (work_dir / 'my_run.py').touch()
        words = (
            rf"work_dir '{work_dir}' holds epoch_3.pth of an earlier run \(my_run.py, 20.*by --resume, .*--overwrite"
        )
        with pytest.raises(ValueError, match=words):
            self.plan(work_dir, None)
        assert self.plan(work_dir, None, overwrite=True) == (False, None)
        assert self.plan(work_dir, None, overwrite=True, resume=True) == (False, None)

    @pytest.mark.parametrize('kept', ['epoch_2.pth', 'best_*.pth'])
    def test_a_run_is_known_by_its_checkpoints_without_the_pointer(self, work_dir, kept):
        for path in {*work_dir.glob('*.pth'), work_dir / 'last_checkpoint'} - set(work_dir.glob(kept)):
            path.unlink()
        with pytest.raises(ValueError, match=f'holds {kept} of an earlier run'.replace('*', '.*')):
            self.plan(work_dir, None)
        for path in work_dir.glob('*.pth'):
            path.unlink()
        assert self.plan(work_dir, None) == (False, None)

    def test_a_checkpoint_of_another_folder_does_not_overwrite_those_of_a_run(self, work_dir, finished, tmp_path):
        path = str(finished / 'epoch_3.pth')
        with pytest.raises(ValueError, match='holds epoch_3.pth of an earlier run'):
            self.plan(work_dir, path)
        assert self.plan(work_dir, path, overwrite=True) == (True, path)
        assert self.plan(tmp_path / 'empty', path) == (True, path)

    def test_a_path_is_taken(self, work_dir):
        path = str(work_dir / 'epoch_1.pth')
        assert self.plan(work_dir, path) == (True, path)
        assert self.plan(work_dir, None, resume=True, load_from=path) == (True, path)

    def test_a_damaged_path_names_a_whole_one(self, work_dir):
        cut(work_dir / 'epoch_3.pth')
        with pytest.raises(
            ValueError, match=r"epoch_3\.pth' is cut off.*newest whole one in the work dir is .*/epoch_2"
        ):
            self.plan(work_dir, str(work_dir / 'epoch_3.pth'))

    def test_one_without_the_optimizer_is_refused(self, work_dir):
        best = str(next(work_dir.glob('best_*.pth')))
        with pytest.raises(ValueError, match=r'best_.* lacks optimizer, so no run can resume from it .*/epoch_3\.pth'):
            self.plan(work_dir, best)
        for path in work_dir.glob('epoch_*.pth'):
            checkpoint = torch.load(path, weights_only=False)
            del checkpoint['optimizer']
            torch.save(checkpoint, path)
        with pytest.raises(ValueError, match='none of the checkpoints in'):
            self.plan(work_dir, 'auto')

    def test_a_damaged_path_without_another_checkpoint(self, work_dir, tmp_path):
        cut(work_dir / 'epoch_3.pth')
        with pytest.raises(ValueError, match='is cut off.*there is no other in the work dir'):
            self.plan(tmp_path / 'empty', str(work_dir / 'epoch_3.pth'))

    @pytest.mark.parametrize('wanted', [None, 'auto', 'epoch_1.pth'])
    def test_a_restart_by_torchrun_resumes(self, work_dir, monkeypatch, wanted):
        monkeypatch.setenv(resume.RESTARTS_VARIABLE, '1')
        assert self.plan(work_dir, wanted) == (True, str(work_dir / 'epoch_3.pth'))

    def test_a_restart_before_the_first_checkpoint_starts_as_the_first_time(self, work_dir, tmp_path, monkeypatch):
        monkeypatch.setenv(resume.RESTARTS_VARIABLE, '1')
        assert self.plan(tmp_path, None, load_from='imagenet.pth') == (False, 'imagenet.pth')
        path = str(work_dir / 'epoch_1.pth')
        assert self.plan(tmp_path / 'empty', path) == (True, path)
