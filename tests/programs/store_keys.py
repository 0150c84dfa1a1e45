"""store_keys URL put VALUE KEY... | delete KEY... | list PREFIX | json PREFIX: write, delete or print keys of Warren's in etcd, past all checks."""

from __future__ import annotations

import json
import sys

from specs.store.etcd import Store

url, verb, *rest = sys.argv[1:]
store = Store([url])
match verb:
    case "put":
        for key in rest[1:]:
            store.put(key, rest[0])
    case "delete":
        for key in rest:
            store.delete(key)
    case "list":
        print(store.list(rest[0])[1])
    case "json":
        print(json.dumps({entry.key: entry.value for entry in store.list(rest[0])[1]}))
