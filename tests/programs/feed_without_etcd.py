"""feed_without_etcd FD: the controller's feed, with no etcd behind its address. It is admitted nevertheless, because only then it writes."""

from __future__ import annotations

import os
import runpy

from specs.store.admission import Admission

os.environ |= {"WARREN_HOST": "h1", "WARREN_VTEP": "192.0.2.1", "WARREN_MACHINE_ID": "m1", "WARREN_ETCD": "http://127.0.0.1:9"}
Admission.check = lambda self: None  # type: ignore[method-assign]
runpy.run_module("controller.feed", run_name="__main__")
