from .arrays import (
    OPENING as OPENING,
    describe as describe,
    image_at as image_at,
    keyed_path as keyed_path,
    open_given as open_given,
    open_input as open_input,
    opening as opening,
    output_path as output_path,
)
from .copy import (
    add_copy_options as add_copy_options,
    add_grid as add_grid,
    add_memory as add_memory,
    add_opening as add_opening,
)
from .outputs import (
    check_output_options as check_output_options,
    layout_options as layout_options,
    plan_output_of as plan_output_of,
    prepared_output as prepared_output,
)
from .preview import add_preview_options as add_preview_options
from .pyramid import (
    add_level_options as add_level_options,
    add_pyramid_options as add_pyramid_options,
    check_level_options as check_level_options,
)
from .run import (
    JOB_TYPES as JOB_TYPES,
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
from .view import add_view_options as add_view_options
