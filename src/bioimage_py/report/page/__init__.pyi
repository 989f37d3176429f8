from .show import (
    PageServer as PageServer,
    check_page_path as check_page_path,
    page_html as page_html,
    page_of_run as page_of_run,
    run_page as run_page,
    write_page as write_page,
)
from .shown_run import (
    Part as Part,
    RunLook as RunLook,
    ShownRun as ShownRun,
    parts_of_work as parts_of_work,
    shown_journal as shown_journal,
)
