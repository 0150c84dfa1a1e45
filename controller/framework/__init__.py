"""The door to Ryu: the rest of Warren takes Ryu's names from `protocol` and `runtime` here. On Python 3.11 they are Ryu's own
(`csle-ryu-fork`); on later ones, for which Ryu's eventlet does not exist, they are those of `os-ken`, OpenStack's fork with the same API."""

import os
import sys
import warnings
from importlib.util import find_spec

RYU = find_spec("ryu") is not None
# os-ken would use threads of the system; the applications rely on green threads, which switch only where they wait
os.environ.setdefault("OSKEN_HUB_TYPE", "eventlet")
# eventlet's own DNS resolver would load dnspython, requests and httpx: 13 MiB and 0.2 s in each controller, which resolves no names
os.environ.setdefault("EVENTLET_NO_GREENDNS", "yes")
if RYU and (shim := sys.modules.get("_distutils_hack")) is not None:
    shim.remove_shim()  # else `distutils`, which Ryu's eventlet imports, is setuptools' copy, with all of setuptools: 12 MiB and 0.2 s
# newer eventlets warn whoever imports them; docs/adr/0080-unmaintained-parts.md has the way out
warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
