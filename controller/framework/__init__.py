"""The door to Ryu: the rest of Warren takes Ryu's names from `protocol` and `runtime` here. On Python 3.11 they are Ryu's own
(`csle-ryu-fork`); on later ones, for which Ryu's eventlet does not exist, they are those of `os-ken`, OpenStack's fork with the same API."""

import os
import warnings
from importlib.util import find_spec

RYU = find_spec("ryu") is not None
# os-ken would use threads of the system; the applications rely on green threads, which switch only where they wait
os.environ.setdefault("OSKEN_HUB_TYPE", "eventlet")
# newer eventlets warn whoever imports them; docs/adr/0080-unmaintained-parts.md has the way out
warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
