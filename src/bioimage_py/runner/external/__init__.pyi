from .config import ExternalConfig as ExternalConfig
from .join import Joined as Joined, find_run as find_run, join_run as join_run
from .runner import ExternalRunner as ExternalRunner
