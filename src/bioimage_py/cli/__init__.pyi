from .command import main as main
from .console import Console as Console, plain as plain, printable as printable
from .failure import (
    EXIT_CODES as EXIT_CODES,
    Terminated as Terminated,
    UnfinishedError as UnfinishedError,
    UsageError as UsageError,
    as_command as as_command,
    failure_of as failure_of,
)
from .parser import build_parser as build_parser
from .progress import ProgressLine as ProgressLine
from .values import seconds as seconds
from .verbs import VERBS as VERBS
