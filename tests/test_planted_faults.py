"""The bugs of planted_faults.py can be planted: the code that each one changes and its test exist."""

from planted_faults import FAULTS, misplaced


def test_each_fault_has_its_place_and_its_test():
    assert misplaced() == []


def test_each_area_has_at_least_five():
    areas = [fault.area for fault in FAULTS]
    assert all(areas.count(area) >= 5 for area in ('losses', 'resume', 'replay', 'export'))
