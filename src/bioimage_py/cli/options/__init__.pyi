from .arrays import (
    OPENING as OPENING,
    add_opening as add_opening,
    describe as describe,
    image_at as image_at,
    keyed_path as keyed_path,
    open_given as open_given,
    opening as opening,
    prepared_output as prepared_output,
)
from .copy import (
    arguments as arguments,
    check_copy_options as check_copy_options,
    run_options as run_options,
)
from .derived import add_fields as add_fields, given_options as given_options, given_values as given_values
from .selection import Selection as Selection
