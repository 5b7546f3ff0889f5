"""What trained runs did, as numbers, figures and one page."""

from r2kd_mm.report.exhibits import Exhibit, Summary, make_exhibits, make_summary
from r2kd_mm.report.measure import Measurements, Method, measure
from r2kd_mm.report.page import write_page
from r2kd_mm.report.runs import RunError, RunGroup, TrainedRun, find_groups

__all__ = [
    'Exhibit',
    'Measurements',
    'Method',
    'RunError',
    'RunGroup',
    'Summary',
    'TrainedRun',
    'find_groups',
    'make_exhibits',
    'make_summary',
    'measure',
    'write_page',
]
