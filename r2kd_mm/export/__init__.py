"""Export the trained student of a run, with its preprocessing and a model card.

Also export the frozen teachers of a distillation as ONNX files, for use in another distillation.
"""

from typing import TYPE_CHECKING

from r2kd_mm.lazy import import_on_demand

if TYPE_CHECKING:
    from r2kd_mm.export.export import TOLERANCE, Exported, export_student
    from r2kd_mm.export.formats import FORMATS, Format, require_packages
    from r2kd_mm.export.network import ExportError, network_source
    from r2kd_mm.export.predictor import Prediction, Predictor
    from r2kd_mm.export.preprocessing import Preprocessing
    from r2kd_mm.export.student import Student, load_student
    from r2kd_mm.export.teachers import ExportedTeacher, export_teachers

__all__ = [
    'ExportError',
    'Exported',
    'ExportedTeacher',
    'FORMATS',
    'Format',
    'Prediction',
    'Predictor',
    'Preprocessing',
    'Student',
    'TOLERANCE',
    'export_student',
    'export_teachers',
    'load_student',
    'network_source',
    'require_packages',
]

__getattr__ = import_on_demand(__name__)
