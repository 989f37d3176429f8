from .arrays import (
    OPENING as OPENING,
    add_opening as add_opening,
    describe as describe,
    image_at as image_at,
    keyed_path as keyed_path,
    open_given as open_given,
    open_input as open_input,
    opening as opening,
    output_path as output_path,
    prepared_output as prepared_output,
)
from .copy import (
    add_copy_options as add_copy_options,
    add_memory as add_memory,
    add_pyramid_options as add_pyramid_options,
    arguments as arguments,
    check_copy_options as check_copy_options,
)
from .derived import add_fields as add_fields, given_options as given_options, given_values as given_values
from .pictures import add_preview_options as add_preview_options, add_view_options as add_view_options
from .run import (
    TASKS_AT_ONCE as TASKS_AT_ONCE,
    add_run_options as add_run_options,
    run_options as run_options,
)
from .run_places import (
    look_at as look_at,
    named_run as named_run,
    shown_path as shown_path,
    usual_places as usual_places,
)
