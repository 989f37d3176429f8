from .copied import Copied as Copied
from .record import check_record as check_record, record_text as record_text, write_record as write_record
from .update import (
    Update as Update,
    changes as changes,
    check_update as check_update,
    find_update as find_update,
    has_changed as has_changed,
)
